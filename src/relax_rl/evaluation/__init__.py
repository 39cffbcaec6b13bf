"""How good a policy is, and how sure we are: sampling, mean@k, pass@k, maj@k, intervals.

The metrics load without torch; `evaluate` and what it needs are imported when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.metrics import maj_at_k, mean_at_k, pass_at_k
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.lazy_names import lazy_names
from relax_rl.statistics.intervals import Estimate, bootstrap_difference, bootstrap_mean

if TYPE_CHECKING:
    from relax_rl.evaluation.rescoring import rescore
    from relax_rl.evaluation.runner import Evaluation, evaluate
    from relax_rl.evaluation.samplers.transformers import sample_completions

__all__ = [
    "Estimate",
    "Evaluation",
    "EvaluationFolder",
    "EvaluationResult",
    "bootstrap_difference",
    "bootstrap_mean",
    "evaluate",
    "maj_at_k",
    "mean_at_k",
    "pass_at_k",
    "rescore",
    "sample_completions",
]

# Torch takes seconds to import; the command line and the report page read results without it.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "runner": ("Evaluation", "evaluate"),
        "rescoring": ("rescore",),
        "samplers.transformers": ("sample_completions",),
    },
)
