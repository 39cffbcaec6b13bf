"""May two evaluations be compared, by what, and what do methods differ in over seeds?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.comparison.discovery import Discovery, discovery_of
    from relax_rl.comparison.methods import Comparison, Difference, MethodSummary, compare_methods
    from relax_rl.comparison.pairs import (
        Comparability,
        Mismatch,
        PairedDifference,
        comparability,
        compare_results,
        paired_difference,
    )
    from relax_rl.comparison.records import RunRecord, by_method, read_runs
    from relax_rl.comparison.solutions import SolutionTurnover, solution_turnover
    from relax_rl.comparison.tables import method_rows, write_comparison_data
    from relax_rl.comparison.turnover import ChangedProblem, Turnover

__all__ = [
    "ChangedProblem",
    "Comparability",
    "Comparison",
    "Difference",
    "Discovery",
    "MethodSummary",
    "Mismatch",
    "PairedDifference",
    "RunRecord",
    "SolutionTurnover",
    "Turnover",
    "by_method",
    "comparability",
    "compare_methods",
    "compare_results",
    "discovery_of",
    "method_rows",
    "paired_difference",
    "read_runs",
    "solution_turnover",
    "write_comparison_data",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "discovery": ("Discovery", "discovery_of"),
        "methods": ("Comparison", "Difference", "MethodSummary", "compare_methods"),
        "pairs": (
            "Comparability",
            "Mismatch",
            "PairedDifference",
            "comparability",
            "compare_results",
            "paired_difference",
        ),
        "records": ("RunRecord", "by_method", "read_runs"),
        "solutions": ("SolutionTurnover", "solution_turnover"),
        "tables": ("method_rows", "write_comparison_data"),
        "turnover": ("ChangedProblem", "Turnover"),
    },
)
