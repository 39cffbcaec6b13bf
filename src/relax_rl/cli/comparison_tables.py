"""The tables and sentences of a comparison, on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from relax_rl.comparison.methods import Comparison
from relax_rl.evaluation.bounds import Bounds
from relax_rl.statistics.seeded_means import SeededMean

__all__ = ["print_verdict"]


_METRICS_OF_A_TABLE = 2
"""More would leave no room for the method's name."""


def print_verdict(comparison: Comparison) -> None:
    """Means after training, differences to the baseline, a sentence for each method, and remarks."""
    console = Console(width=118)
    starts = range(0, len(comparison.metrics), _METRICS_OF_A_TABLE)
    parts = [comparison.metrics[start : start + _METRICS_OF_A_TABLE] for start in starts]
    for place, metrics in enumerate(parts):
        console.print(_value_table(comparison, metrics, is_first=place == 0))
    if any(row.bounds for row in comparison.methods):
        print("{worst, best}: completions without a score are left out of the means; if all were wrong, or all right.")
    if len(comparison.methods) > 1:
        for metrics in parts:
            console.print(_difference_table(comparison, metrics))
    if comparison.frontier:
        console.print(_frontier_table(comparison))
    for row in comparison.methods:
        print(row.sentence)
    for remark in comparison.remarks:
        print(f"note: {remark}")


def _value_table(comparison: Comparison, metrics: Sequence[str], *, is_first: bool) -> Table:
    """Means after training; the first table also has what is not tested."""
    scaled = ", advantages of every method scaled to the size of GRPO's" if comparison.is_matched else ""
    table = Table(title=f"after training{scaled}; 95 % intervals over seeds and problems")
    for heading in ("method", "seeds", *metrics, *(("entropy", "DSD", "s/run", "tokens/run") if is_first else ())):
        table.add_column(
            heading, justify="left" if heading == "method" else "right", no_wrap=heading != "method", overflow="fold"
        )
    for row in comparison.methods:
        cells = [_interval(row.values.get(name), ".3f") + _bounds(row.bounds.get(name)) for name in metrics]
        if is_first:
            cells += [_point(row.values.get(name), form) for name, form in (("entropy", ".3f"), ("dsd", ".4f"))]
            cells += [f"{row.seconds:.0f}", f"{row.tokens:,.0f}"]
        table.add_row(row.method, str(len(row.seeds)), *cells)
    return table


def _difference_table(comparison: Comparison, metrics: Sequence[str]) -> Table:
    title = f"minus {comparison.baseline}, paired by seed and problem; p corrected by Holm for each metric"
    table = Table(title=title)
    table.add_column("method")
    for name in metrics:
        table.add_column(name, justify="right")
        table.add_column("p", justify="right")
    for row in comparison.methods:
        cells: list[str] = []
        for difference in (row.differences.get(name) for name in metrics):
            cells.append(_interval(difference.mean if difference else None, "+.3f"))
            cells.append(difference.shown_p if difference else "-")
        if row.method != comparison.baseline:
            table.add_row(row.method, *cells)
    return table


def _frontier_table(comparison: Comparison) -> Table:
    table = Table(title=f"above the frontier of {', '.join(comparison.frontier)}, at equal mean@1; p corrected by Holm")
    for heading in ("method", "metric", "seeds", "distance", "p", ""):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for found in comparison.above:
        test = found.test
        size = f"{found.distance:+.3f}"
        if test is not None:
            size += f" [{test.distance.low:+.3f}, {test.distance.high:+.3f}]"
        p_value = "-" if test is None else f"{test.p_value:.3f}"
        table.add_row(found.method, found.breadth, str(found.num_seeds), size, p_value, found.verdict)
    return table


def _interval(mean: SeededMean | None, form: str) -> str:
    return "-" if mean is None else f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def _bounds(bounds: Bounds | None) -> str:
    return "" if bounds is None else f" {{{bounds.worst:.3f}, {bounds.best:.3f}}}"


def _point(mean: SeededMean | None, form: str) -> str:
    return "-" if mean is None else f"{mean.value:{form}}"
