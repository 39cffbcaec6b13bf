"""Koopman eigenvalues in the complex plane, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.canvas import INK, MUTED, as_axes, quieten

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SPURIOUS_RESIDUAL", "Eigenpairs", "draw_spectra", "plot_spectrum", "stages_with_spectrum"]

SPURIOUS_RESIDUAL = 0.9
"""A relative ResDMD residual from here on is drawn grey: less than a fifth (1 - 0.9^2) of the eigenfunction's next
value is explained, so the pair hardly is an eigenpair. Token-level states jump: 0.7 is common and no fault."""
_STAGES = ("before", "after")


class Eigenpairs(Protocol):
    """A spectrum as it is drawn: that of an evaluation, of a site, or as the toolkit computes it."""

    @property
    def eigenvalues(self) -> tuple[tuple[float, float], ...] | Tensor:
        """Pairs (re, im) as a result file has them, or (R,) complex numbers."""
        ...

    @property
    def residuals(self) -> tuple[float, ...] | Tensor: ...

    @property
    def residual_kind(self) -> str: ...


def plot_spectrum(spectrum: Eigenpairs | None, ax: Axes | None = None, *, extent: float = 1.15) -> Axes:
    """Draw the eigenvalues with the unit circle, coloured by residual (dark is small), hollow grey if spurious.

    Args:
        extent: half-width of the plane that is shown.
    """
    ax = as_axes(ax, (3.4, 3.4))
    quieten(ax)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=MUTED, linewidth=0.8))
    ax.axhline(0, color="#dddddd", linewidth=0.6, zorder=0)
    ax.axvline(0, color="#dddddd", linewidth=0.6, zorder=0)
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    ax.set_xlabel("Re λ", fontsize=8.5, color=INK)
    ax.set_ylabel("Im λ", fontsize=8.5, color=INK)
    if spectrum is None:
        ax.text(0, 0, "not measured", ha="center", va="center", fontsize=9, color=MUTED)
        return ax
    values, residuals = np.array(spectrum.eigenvalues), np.array(spectrum.residuals)
    # Complex numbers as the toolkit has them, pairs (re, im) as a result file has them.
    values = np.stack([np.real(values), np.imag(values)], -1) if np.iscomplexobj(values) else values.reshape(-1, 2)
    spurious = ~(residuals < SPURIOUS_RESIDUAL)  # NaN is spurious too
    if spectrum.residual_kind == "vacuous":
        spurious[:] = True  # zero by construction
    ax.scatter(*values[spurious].T, s=20, facecolors="none", edgecolors="#b0b0b0", linewidths=0.9, zorder=2)
    ax.scatter(
        *values[~spurious].T,
        s=24,
        c=residuals[~spurious],
        cmap="viridis",
        vmin=0,
        vmax=SPURIOUS_RESIDUAL,
        edgecolors="white",
        linewidths=0.4,
        zorder=3,
        gid="sound-eigenvalues",
    )
    return ax


def stages_with_spectrum(runs: Sequence[RunRecord]) -> list[str]:
    """The stages, of before and after, for which any run has a spectrum."""
    return [s for s in _STAGES if any(s in run.evaluations and run.evaluations[s].spectrum for run in runs)]


def draw_spectra(runs: Sequence[RunRecord]) -> Figure | None:
    """One plane a run and stage, all at one scale, with one bar for the residual; None if nothing was measured."""
    stages = stages_with_spectrum(runs)
    if not stages:
        return None
    # Runs side by side while they fit, so that like is beside like.
    planes = [(run, stage) for run in runs for stage in stages]
    num_columns = min(len(planes), 4 if len(stages) == 2 or len(planes) % 4 == 0 else 3)
    num_rows = -(-len(planes) // num_columns)
    figure = Figure(figsize=(2.45 * num_columns + 0.5, 2.75 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    extent = _extent(runs, stages)
    for ax, (run, stage) in zip(axes.ravel(), planes, strict=False):
        evaluation = run.evaluations.get(stage)
        plot_spectrum(evaluation.spectrum if evaluation else None, ax, extent=extent)
        ax.set_title(f"{run.label}, {stage}", fontsize=9.5, color=INK, parse_math=False)
        ax.label_outer()
    for ax in axes.ravel()[len(planes) :]:
        ax.set_axis_off()
    drawn = [collection for ax in axes.ravel() for collection in ax.collections if collection.get_gid()]
    if drawn:
        bar = figure.colorbar(drawn[0], ax=axes, shrink=0.75, aspect=28, pad=0.015)
        bar.set_label("residual", fontsize=8.5, color=INK)
        bar.ax.tick_params(labelsize=8, width=0.6)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _extent(runs: Sequence[RunRecord], stages: Sequence[str]) -> float:
    """Half-width that holds the unit circle and all eigenvalues, but not one that has run away (beyond 2)."""
    parts = [
        abs(part)
        for run in runs
        for stage in stages
        if stage in run.evaluations and (spectrum := run.evaluations[stage].spectrum)
        for value in spectrum.eigenvalues
        for part in value
    ]
    return 1.1 * min(2.0, max([1.0, *parts]))
