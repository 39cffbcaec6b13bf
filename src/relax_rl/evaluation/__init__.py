"""How good a policy is, and how sure we are: sampling, mean@k, pass@k, maj@k, intervals.

The metrics load without torch; `evaluate` and what it needs are imported when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relax_rl.evaluation.intervals import Estimate, bootstrap_difference, bootstrap_mean
from relax_rl.evaluation.metrics import maj_at_k, mean_at_k, pass_at_k
from relax_rl.evaluation.result import EvaluationResult

if TYPE_CHECKING:
    from relax_rl.evaluation.runner import evaluate
    from relax_rl.evaluation.sampling import sample_completions

__all__ = [
    "Estimate",
    "EvaluationResult",
    "bootstrap_difference",
    "bootstrap_mean",
    "evaluate",
    "maj_at_k",
    "mean_at_k",
    "pass_at_k",
    "sample_completions",
]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the command line and the report page read results without it.
    if name == "evaluate":
        from relax_rl.evaluation.runner import evaluate

        return evaluate
    if name == "sample_completions":
        from relax_rl.evaluation.sampling import sample_completions

        return sample_completions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
