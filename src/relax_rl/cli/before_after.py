"""The changes of a run as a table: before, after, and the paired difference."""

from __future__ import annotations

import re
import sys

from rich.console import Console
from rich.table import Table

from relax_rl.comparison.pairs import compare_results
from relax_rl.evaluation.result import EvaluationResult

__all__ = ["print_before_and_after"]

_SHOWN = re.compile(r"mean@1|pass@\d+|maj@\d+|entropy|dsd|length|truncated")


def print_before_and_after(before: EvaluationResult, after: EvaluationResult) -> None:
    """Print the table on stderr, where the progress is: stdout has the run directory alone."""
    table = Table(
        title=f"{after.task}/{after.split}, before and after training",
        caption=f"{after.num_problems} problems x {after.num_samples} completions; 95 % intervals by bootstrap over "
        "problems, paired; p: sign-flip test over problems, two-sided, not corrected for several metrics",
    )
    table.add_column("metric")
    for column in ("before", "after", "difference", "low", "high", "p"):
        table.add_column(column, justify="right")
    for row in compare_results(before, after):
        if _SHOWN.fullmatch(row.metric):
            numbers = (row.first, row.second, row.difference.value, row.difference.low, row.difference.high)
            table.add_row(row.metric, *(f"{number:.4g}" for number in numbers), f"{row.p_value:.3g}")
    Console(file=sys.stderr).print(table)
