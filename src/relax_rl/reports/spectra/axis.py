"""The page about states over layers or cycles: which modes, how fast they settle, and when tokens could halt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relax_rl.reports.canvas import INK, MUTED, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.figures import make_log_if_wide
from relax_rl.reports.spectra.planes import plot_spectrum
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.spectra.axes import TOLERANCE, AxisSpectrum

__all__ = ["STEP_COLUMNS", "axis_cells", "step_rows", "write_axis_page"]

STEP_COLUMNS = ("block", "step", "change", "contraction", "settled")
_HEAD = ("block", "tokens", "steps", "largest |λ|", "residual", "change", "contraction", "settled")


@dataclass(frozen=True)
class _Plane:
    """An axis's spectrum as planes draw it."""

    eigenvalues: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]
    residual_kind: str = "primal"


def write_axis_page(
    axes: Sequence[AxisSpectrum], model: str, axis: str, source: str, command: Sequence[str], output: Path
) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    title = f"States of {Path(model).name} over {'its layers' if axis == 'depth' else 'the cycles of its blocks'}"
    data = download("axis.csv", STEP_COLUMNS, step_rows(axes))
    return write_page(title, source, [_table(axes), *map(_block, axes), data], command, output)


def axis_cells(axis: AxisSpectrum) -> list[str]:
    """A block's row: for the page and for the terminal."""
    return [
        axis.name,
        str(axis.num_tokens),
        str(axis.num_steps),
        " ".join(f"{value:.3f}" for value in axis.moduli[:4]),
        f"{axis.residuals[0]:.2f}",
        f"{axis.fixed_point_residual[0]:.3f} to {axis.fixed_point_residual[-1]:.3f}",
        f"{axis.contraction[0]:.3f} to {axis.contraction[-1]:.3f}",
        f"{100 * axis.settled[-1]:.0f} %",
    ]


def step_rows(axes: Sequence[AxisSpectrum]) -> list[tuple[str, int, float, float | None, float]]:
    """Rows of `STEP_COLUMNS`."""
    return [
        (axis.name, step, change, None if step == 1 else axis.contraction[step - 2], settled)
        for axis in axes
        for step, (change, settled) in enumerate(zip(axis.fixed_point_residual, axis.settled, strict=True), start=1)
    ]


def _table(axes: Sequence[AxisSpectrum]) -> Html:
    note = (
        "Largest |λ|: moduli of the operator that takes one change of a token's state to the next; below 1 the changes "
        "die out. Residual: of the largest; above 0.5 the steps share no linear dynamics, as is usual over layers. "
        "Change: |h′ − h| / |h′|, mean over tokens, at the first and the last step. Contraction: ratio of one change "
        f"to the one before, median over tokens. Settled: tokens whose change fell below {100 * TOLERANCE:g} %."
    )
    table = cells_table(_HEAD, map(axis_cells, axes), "By block", "results")
    return noted_section("Do the states settle?", table, note=note)


def _block(axis: AxisSpectrum) -> Html:
    panels = [
        _image(_draw_plane(axis), f"Eigenvalues of {axis.name} in the complex plane"),
        _image(_draw_changes(axis), f"Change of the state of {axis.name} by step"),
        _image(_draw_settled(axis), f"Share of tokens of {axis.name} that have settled, by step"),
    ]
    note = (
        "Left: eigenvalues of the changes, the colour their residual. Middle: the change at each step, and dashed the "
        "decay of the largest |λ| from the first step; where both run together, the fit says how fast the block "
        f"contracts. Right: the share of tokens that could halt, their change being below {100 * TOLERANCE:g} %."
    )
    parts = [element("div", *panels, class_="panels"), element("p", note, class_="note")]
    if axis.halting:
        rows = [[_halting_step(axis, step), str(count), f"{modulus:.3f}"] for step, count, modulus in axis.halting]
        names = ("settles at step", "tokens", "largest |λ|")
        described = (
            "Tokens by the step at which they settle. Read: a spectrum that rises downwards is one that predicts it."
        )
        parts += [
            cells_table(names, rows, "By halting step"),
            element("p", described, class_="note"),
        ]
    return element("section", element("h2", axis.name), *parts)


def _halting_step(axis: AxisSpectrum, step: int) -> str:
    return str(step) if step <= len(axis.settled) else "never"


def _image(drawn: Figure, alt: str) -> Html:
    return element("figure", element("img", src=svg_source(drawn), alt=alt))


def _draw_plane(axis: AxisSpectrum) -> Figure:
    drawn = Figure(figsize=(3.7, 3.2), layout="constrained")
    plane = _Plane(axis.eigenvalues, axis.residuals)
    plot_spectrum(plane, drawn.add_subplot(), extent=1.1 * min(2.0, max(1.0, *axis.moduli)))
    return drawn


def _draw_changes(axis: AxisSpectrum) -> Figure:
    drawn = Figure(figsize=(3.7, 3.2), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    steps = range(1, len(axis.fixed_point_residual) + 1)
    changes = axis.fixed_point_residual
    ax.plot(steps, changes, marker="o", markersize=4, color=color_of(0), label="measured")
    decay = [changes[0] * axis.moduli[0] ** (step - 1) for step in steps]
    ax.plot(steps, decay, linestyle="--", linewidth=1.0, color=MUTED, label="largest |λ|")
    make_log_if_wide(ax)
    ax.set_xlabel("step", fontsize=8.5, color=INK)
    ax.set_ylabel("|h′ − h| / |h′|", fontsize=8.5, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=8, frameon=False)
    return drawn


def _draw_settled(axis: AxisSpectrum) -> Figure:
    drawn = Figure(figsize=(3.7, 3.2), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    steps = range(1, len(axis.settled) + 1)
    ax.step(steps, axis.settled, where="mid", color=color_of(2))
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("step", fontsize=8.5, color=INK)
    ax.set_ylabel("share of tokens settled", fontsize=8.5, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn
