"""Training curves: what was logged against the step, for all runs in one panel a metric (the paper's Fig. 3 and 4)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from scipy.signal import savgol_filter

from relax_rl.comparison.records import RunRecord, by_method
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, linestyle_of, quieten

__all__ = ["PANELS", "Panel", "band_of", "draw_curves", "plot_curve", "smooth", "smoothing_window"]


@dataclass(frozen=True)
class Panel:
    """One metric: its keys in ``metrics.jsonl`` (the first that a run logged is taken), its title, and its axis."""

    keys: tuple[str, ...]
    title: str
    is_log: bool = False


PANELS = (
    Panel(("reward",), "Reward"),
    Panel(("entropy",), "Token entropy (nats)"),
    Panel(("latent/dsd",), "DSD (log axis)", is_log=True),
    Panel(("completions/mean_length",), "Completion length (tokens)"),
    Panel(("grad_norm",), "Gradient norm"),
)


def smoothing_window(num_points: int) -> int:
    """Odd number of points averaged: about a tenth of the curve, at least three where there are ten points."""
    return 1 if num_points < 10 else 2 * max(1, round(num_points / 20)) + 1


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean of `smoothing_window` points; a straight line fitted to as many at the ends.

    A shorter window at the ends would show the noise of the last steps where readers look first, a one-sided mean
    would bend the trend.
    """
    window = smoothing_window(len(values))
    return np.asarray(savgol_filter(values, window, polyorder=1, mode="interp")) if window > 1 else values


def plot_curve(runs: Sequence[RunRecord], panel: Panel, ax: Axes | None = None) -> Axes:
    """Draw one metric: for each run a pale line as logged and a full one smoothed; a run without it has no line.

    Runs of one method that differ in the seed share a line, the mean of their smoothed curves, in a band from the
    lowest to the highest of them.
    """
    ax = as_axes(ax, (4.2, 2.8))
    quieten(ax)
    ax.set_title(panel.title, fontsize=9.5, color=INK, loc="left")
    ax.set_xlabel("step", fontsize=8.5, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for position, (method, members) in enumerate(by_method(runs).items()):
        look = {"color": color_of(position), "linestyle": linestyle_of(position), "linewidth": 1.6}
        curves = [(steps, values) for steps, values in (curve_of(run, panel) for run in members) if len(steps)]
        if len(members) > 1 and curves:
            steps, low, middle, high = band_of(curves, is_log=panel.is_log)
            ax.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
            ax.plot(steps, middle, marker="o" if len(steps) == 1 else "", label=method, **look)
        elif curves:
            ((steps, values),) = curves
            ax.plot(steps, values, color=look["color"], linewidth=0.8, alpha=0.28)
            marker = "o" if len(steps) == 1 else ""
            ax.plot(steps, _smoothed(values, panel.is_log), marker=marker, label=members[0].label, **look)
    if panel.is_log and ax.lines:
        _make_log(ax)
    if not ax.lines:
        ax.text(0.5, 0.5, "not logged", transform=ax.transAxes, ha="center", va="center", fontsize=9, color=MUTED)
        ax.set(xticks=[], yticks=[])
    return ax


def band_of(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], *, is_log: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all curves have, and the lowest, mean and highest of the smoothed curves there.

    Args:
        curves: steps and values of each run.
        is_log: average logarithms.
    """
    shared = functools.reduce(np.intersect1d, [steps for steps, _ in curves])
    values = np.array([_smoothed(each, is_log)[np.isin(steps, shared)] for steps, each in curves])
    middle = np.exp(np.log(values).mean(axis=0)) if is_log else values.mean(axis=0)
    return shared, values.min(axis=0), middle, values.max(axis=0)


def _smoothed(values: np.ndarray, is_log: bool) -> np.ndarray:
    # On a log axis the mean of logarithms is what the eye averages.
    return np.exp(smooth(np.log(values))) if is_log else smooth(values)


def _make_log(ax: Axes) -> None:
    """A log axis with plain numbers; on 1, 2 and 5 of each decade, or evenly where it spans too little for that."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if high < 5 * low:
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.yaxis.set_minor_locator(NullLocator())
    elif high < 100 * low:
        ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


def curve_of(run: RunRecord, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values that a panel draws; on a log axis only the positive ones."""
    for key in panel.keys:
        steps, values = run.curve(key)
        if len(steps):
            shown = values > 0 if panel.is_log else np.ones(len(values), dtype=bool)
            return steps[shown], values[shown]
    return np.empty(0), np.empty(0)


def draw_curves(runs: Sequence[RunRecord], panels: Sequence[Panel] = PANELS) -> Figure:
    """All panels, three a row, with one legend in the place after the last."""
    num_rows = -(-(len(panels) + 1) // 3)
    figure = Figure(figsize=(10.4, 2.75 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, 3, squeeze=False).ravel()
    for panel, ax in zip(panels, axes, strict=False):
        plot_curve(runs, panel, ax)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    labels = {line.get_label(): line for ax in axes[: len(panels)] for line in ax.lines if line.get_label()[0] != "_"}
    named = [members[0].label if len(members) == 1 else method for method, members in by_method(runs).items()]
    ordered = [name for name in named if name in labels]
    if ordered:
        handles = [labels[label] for label in ordered]
        legend = axes[len(panels)].legend(handles, ordered, loc="center left", frameon=False, fontsize=10)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a dollar sign in a name is a dollar sign
    return figure
