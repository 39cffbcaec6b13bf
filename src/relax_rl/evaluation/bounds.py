"""Between what values a metric lies, whatever the samples that were not scored are worth.

A mean over the scored samples says nothing of the others. If they are few, the bounds are close and the mean stands; if
they are many, the bounds say how little is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult

__all__ = ["Bounds", "metric_bounds", "num_unscored", "unscored_note"]


@dataclass(frozen=True)
class Bounds:
    """A metric's value over all problems if every sample without a score is wrong, and if every one is right."""

    worst: float
    best: float


def num_unscored(result: EvaluationResult) -> int:
    """Samples without a score, by the gold answer's or the grader's fault."""
    return sum(result.num_samples - problem.num_scored for problem in result.per_problem)


def metric_bounds(result: EvaluationResult, metric: str) -> Bounds | None:
    """The bounds of ``mean@1`` or a ``pass@k``; None for any other metric, and where every sample was scored."""
    kind, _, k = metric.partition("@")
    if kind not in {"mean", "pass"} or not k.isdigit() or num_unscored(result) == 0:
        return None
    # Problems without any score count, too: the mean over the others leaves them out.
    ends = []
    for unscored_is_worth in (0, 1):
        values = [
            _value(problem, kind, int(k), result.num_samples, unscored_is_worth) for problem in result.per_problem
        ]
        ends.append(float(np.mean(values)))
    return Bounds(*ends)


def unscored_note(result: EvaluationResult) -> str | None:
    """Remark on samples without a score, and of answers that no grader could read; else None."""
    unscored, reasons = num_unscored(result), ", ".join(f"{why}: {count}" for why, count in result.reasons.items())
    total = result.num_samples * len(result.per_problem)
    said = f" ({reasons})" if reasons else ""
    if unscored:
        return (
            f"{unscored} of {total} completions have no score, by the gold answer's or the grader's fault, and are "
            f"left out of the means; worst and best say what the value is if all of them are wrong or right{said}"
        )
    if result.reasons:
        return f"{sum(result.reasons.values())} of {total} completions score 0 because no grader could read them{said}"
    return None


def _value(problem: ProblemResult, kind: str, k: int, num_samples: int, unscored_is_worth: int) -> float:
    unscored = num_samples - problem.num_scored
    if kind == "pass":
        return pass_at_k(num_samples, problem.num_correct + unscored_is_worth * unscored, min(k, num_samples))
    return ((problem.mean_score or 0.0) * problem.num_scored + unscored_is_worth * unscored) / num_samples
