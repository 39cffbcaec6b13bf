"""pass@k over k, before and after training, with intervals; and the differences to a baseline as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, linestyle_of, quieten
from relax_rl.statistics.intervals import Estimate
from relax_rl.statistics.seeded_means import SeededMean

__all__ = ["draw_differences", "draw_pass_curves", "pass_curves", "pass_rows", "plot_differences", "plot_pass_curves"]


def pass_curves(runs: Sequence[RunRecord]) -> dict[str, tuple[Estimate, ...]]:
    """pass@1, pass@2, ... of each run before and after training, by what a legend says."""
    return {
        f"{run.label}, {stage}": run.evaluations[stage].pass_at_k
        for run in runs
        for stage in ("before", "after")
        if stage in run.evaluations and len(run.evaluations[stage].pass_at_k) > 1
    }


def plot_pass_curves(curves: Mapping[str, Sequence[Estimate]], ax: Axes | None = None) -> Axes:
    """Draw pass@k against k on a log axis, a line and a pale band of its interval for each curve.

    Args:
        curves: pass@1, pass@2, ... by name.
    """
    ax = as_axes(ax, (5.2, 3.4))
    quieten(ax)
    for position, (name, curve) in enumerate(curves.items()):
        ks = range(1, len(curve) + 1)
        color = color_of(position)
        ax.fill_between(ks, [p.low for p in curve], [p.high for p in curve], color=color, alpha=0.12, linewidth=0)
        ax.plot(ks, [p.value for p in curve], color=color, linestyle=linestyle_of(position), label=name, linewidth=1.5)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("k", fontsize=8.5, color=INK)
    ax.set_ylabel("pass@k", fontsize=8.5, color=INK)
    if curves:
        for text in ax.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    return ax


def draw_pass_curves(runs: Sequence[RunRecord]) -> Figure | None:
    """All curves in one figure; None where no evaluation has them."""
    curves = pass_curves(runs)
    if not curves:
        return None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    plot_pass_curves(curves, figure.add_subplot())
    return figure


def pass_rows(runs: Sequence[RunRecord]) -> list[tuple[str, str, int, float, float, float]]:
    """Run, evaluation, k, value, low, high."""
    return [
        (*name.rsplit(", ", 1), k, point.value, point.low, point.high)  # type: ignore[misc]
        for name, curve in pass_curves(runs).items()
        for k, point in enumerate(curve, start=1)
    ]


def plot_differences(
    differences: Mapping[str, Estimate | SeededMean], ax: Axes | None = None, *, name: str = "difference"
) -> Axes:
    """Draw a bar a method from zero to its difference, with its interval; pale where the interval has zero.

    Args:
        differences: to the baseline, by method.
        name: of the axis.
    """
    ax = as_axes(ax, (5.2, 0.6 + 0.42 * max(1, len(differences))))
    quieten(ax)
    for position, estimate in enumerate(differences.values()):
        is_clear = estimate.low > 0 or estimate.high < 0
        ax.barh(position, estimate.value, height=0.55, color=color_of(0), alpha=0.85 if is_clear else 0.35)
        ax.plot([estimate.low, estimate.high], [position, position], color=INK, linewidth=1.2, solid_capstyle="butt")
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set_yticks(range(len(differences)), list(differences))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.invert_yaxis()
    ax.set_xlabel(name, fontsize=8.5, color=INK)
    return ax


def draw_differences(differences: Mapping[str, Estimate | SeededMean], name: str) -> Figure:
    """The bars of `plot_differences` in a figure of their own."""
    figure = Figure(figsize=(6.4, 0.7 + 0.42 * max(1, len(differences))), layout="constrained")
    plot_differences(differences, figure.add_subplot(), name=name)
    return figure
