"""Two evaluations of the same problems, paired: the difference of every metric, its interval and a p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_difference
from relax_rl.statistics.sign_flip import sign_flip_test

__all__ = ["PairedDifference", "compare_results", "different_settings"]

_BY_PROBLEM = ("length", "truncated", "no_answer", "distinct_correct", "distinct_paths")
"""Metrics that are kept problem by problem under their own name."""
_SETTINGS = ("num_samples", "temperature", "top_p", "max_new_tokens", "prompt_digest", "grader", "backend")


@dataclass(frozen=True)
class PairedDifference:
    """One metric of two evaluations.

    Attributes:
        metric: its name.
        first, second: its value in each, over the problems that both have.
        difference: ``second - first`` with its 95 % interval, by bootstrap over problems, paired.
        p_value: two-sided, of the sign-flip test over problems.
    """

    metric: str
    first: float
    second: float
    difference: Estimate
    p_value: float


def different_settings(first: EvaluationResult, second: EvaluationResult) -> dict[str, tuple[object, object]]:
    """Settings in which the two differ although the comparison may be about the models alone."""
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in _SETTINGS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compare_results(first: EvaluationResult, second: EvaluationResult, *, seed: int = 0) -> list[PairedDifference]:
    """The metrics that both have, over the problems that both have.

    Args:
        seed: of the resamples and, with many problems, of the sign patterns.

    Raises:
        DataError: different tasks or splits, or no problem in common.
    """
    if (first.task, first.split) != (second.task, second.split):
        raise DataError(
            f"{first.task}/{first.split} and {second.task}/{second.split} are different problems; compare evaluations "
            "of the same task and split."
        )
    others = {problem.id: problem for problem in second.per_problem}
    pairs = [(problem, others[problem.id]) for problem in first.per_problem if problem.id in others]
    if not pairs:
        raise DataError(
            f"the two evaluations of {first.task}/{first.split} have no problem in common; another problem seed or "
            "another number of problems was used."
        )
    found = []
    for metric in _shared_metrics(first, second):
        before, after = (np.array([_value(row[side], metric) for row in pairs]) for side in (0, 1))
        difference = bootstrap_difference(before, after, seed=seed)
        if difference is not None:
            kept = ~np.isnan(before) & ~np.isnan(after)
            test = sign_flip_test(after[kept] - before[kept], seed=seed)
            assert test is not None  # where there is a difference there is a pair
            means = float(before[kept].mean()), float(after[kept].mean())
            found.append(PairedDifference(metric, *means, difference, test.p_value))
    return found


def _shared_metrics(first: EvaluationResult, second: EvaluationResult) -> list[str]:
    shared = [name for name in first.metrics if name in second.metrics]
    return [name for name in shared if name in _BY_PROBLEM or name.startswith(("mean@", "pass@", "maj@"))]


def _value(problem: ProblemResult, metric: str) -> float:
    """NaN where the problem has no value."""
    kind, _, k = metric.partition("@")
    if kind == "mean":
        value = problem.mean_score
    elif kind == "pass":
        enough = problem.num_scored >= int(k)
        value = pass_at_k(problem.num_scored, problem.num_correct, int(k)) if enough else None
    else:
        value = problem.majority if kind == "maj" else getattr(problem, metric)
    return np.nan if value is None else float(value)
