"""pass@k over k, before and after training, with intervals; and the differences to a baseline as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from relax_rl.comparison.pairs import paired_difference
from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, linestyle_of, quieten
from relax_rl.statistics.intervals import Estimate
from relax_rl.statistics.seeded_means import SeededMean

__all__ = [
    "DIFFERENCE_COLUMNS",
    "difference_rows",
    "draw_differences",
    "draw_pass_curves",
    "pass_curves",
    "pass_differences",
    "pass_rows",
    "plot_differences",
    "plot_pass_curves",
    "plot_pass_differences",
]

DIFFERENCE_COLUMNS = ("difference", "k", "value", "low", "high")


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
    return _over_k(ax, "pass@k", has_names=bool(curves))


def pass_differences(runs: Sequence[RunRecord]) -> dict[str, dict[int, Estimate]]:
    """Paired differences in pass@k by k: after minus before training, and minus the first run; by their names."""
    found: dict[str, dict[int, Estimate]] = {}
    for run in runs:
        before, after = run.evaluations.get("before"), run.evaluations.get("after")
        if before is not None and after is not None:
            found[f"{run.label}, after − before"] = _by_k(before, after)
    first = runs[0].evaluations.get("after") if runs else None
    for run in runs[1:]:
        after = run.evaluations.get("after")
        if first is not None and after is not None:
            found[f"{run.label} − {runs[0].label}"] = _by_k(first, after)
    return {name: by_k for name, by_k in found.items() if len(by_k) > 1}


def _by_k(first: EvaluationResult, second: EvaluationResult) -> dict[int, Estimate]:
    """Differences at the powers of two that both were measured at; k = 1 is mean@1."""
    names = {1 << place: f"pass@{1 << place}" if place else "mean@1" for place in range(20)}
    shared = {k: name for k, name in names.items() if name in first.metrics and name in second.metrics}
    found = {k: paired_difference(first, second, name) for k, name in shared.items()}
    return {k: estimate for k, estimate in found.items() if estimate is not None}


def plot_pass_differences(differences: Mapping[str, Mapping[int, Estimate]], ax: Axes | None = None) -> Axes:
    """Draw paired differences in pass@k against k on a log axis, with their intervals.

    Args:
        differences: by name, then by k.
    """
    ax = as_axes(ax, (5.2, 3.4))
    quieten(ax)
    ax.axhline(0, color=MUTED, linewidth=0.8)
    for position, (name, by_k) in enumerate(differences.items()):
        # Apart by a few per cent, so that intervals do not cover each other.
        ks = [k * 1.05 ** (position - (len(differences) - 1) / 2) for k in by_k]
        values = [point.value for point in by_k.values()]
        ends = [[p.value - p.low for p in by_k.values()], [p.high - p.value for p in by_k.values()]]
        look = {"color": color_of(position), "linestyle": linestyle_of(position), "linewidth": 1.3, "markersize": 3.5}
        ax.errorbar(ks, values, ends, marker="o", capsize=2, label=name, **look)  # type: ignore[arg-type]
    return _over_k(ax, "difference in pass@k", has_names=bool(differences))


def _over_k(ax: Axes, what: str, *, has_names: bool) -> Axes:
    """The axes of a picture over k, which doubles, with a legend if anything is drawn."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("k", fontsize=8.5, color=INK)
    ax.set_ylabel(what, fontsize=8.5, color=INK)
    if has_names:
        for text in ax.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    return ax


def draw_pass_curves(runs: Sequence[RunRecord]) -> Figure | None:
    """All curves, and beside them their paired differences; None where no evaluation has curves."""
    curves, differences = pass_curves(runs), pass_differences(runs)
    if not curves:
        return None
    figure = Figure(figsize=(10.6 if differences else 6.4, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if differences else 1, squeeze=False)[0]
    plot_pass_curves(curves, axes[0])
    if differences:
        plot_pass_differences(differences, axes[1])
    return figure


def difference_rows(runs: Sequence[RunRecord]) -> list[tuple[str, int, float, float, float]]:
    """Rows of `DIFFERENCE_COLUMNS`."""
    return [
        (name, k, point.value, point.low, point.high)
        for name, by_k in pass_differences(runs).items()
        for k, point in by_k.items()
    ]


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
        name: name of the axis.
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
    figure = Figure(figsize=(5.0, 0.7 + 0.42 * max(1, len(differences))), layout="constrained")
    plot_differences(differences, figure.add_subplot(), name=name)
    return figure
