"""Several methods, several seeds, one verdict: `compare` is what ``relax compare`` does, for programs."""

from relax_rl.workflows.compare.comparison import ComparisonResult, PlannedComparison, compare, prepare_comparison

__all__ = ["ComparisonResult", "PlannedComparison", "compare", "prepare_comparison"]
