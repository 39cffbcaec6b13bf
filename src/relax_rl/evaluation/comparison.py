"""Two evaluations of the same problems, paired: the difference of every metric, its interval and a p-value."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError
from relax_rl.evaluation.intervals import Estimate, bootstrap_difference
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult

__all__ = ["PairedDifference", "compare_results", "different_settings", "sign_flip_p_value"]

_BY_PROBLEM = ("length", "truncated", "no_answer", "distinct_correct", "distinct_paths")
"""Metrics that are kept problem by problem under their own name."""
_SETTINGS = ("num_samples", "temperature", "top_p", "max_new_tokens", "prompt_digest", "grader", "backend")
_EXACT_UP_TO = 14
"""So many differences that are not zero have 2^14 = 16,384 sign patterns, which are counted; more are sampled."""


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
            p_value = sign_flip_p_value(after[kept] - before[kept], seed=seed)
            means = float(before[kept].mean()), float(after[kept].mean())
            found.append(PairedDifference(metric, *means, difference, p_value))
    return found


def sign_flip_p_value(differences: np.ndarray, *, num_patterns: int = 20_000, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference (N,): how often as large a mean comes about if every sign were a coin's.

    Under the hypothesis that the two evaluations are exchangeable problem by problem this is exact: all sign patterns
    of the differences that are not zero are counted up to 14 of them. With more, ``num_patterns`` random ones are, and
    the observed one with them, so that the test stays valid.
    """
    differences = differences[differences != 0]
    if differences.size == 0:
        return 1.0
    # A pattern that gives the observed mean in another order of summation must not fall below it by rounding.
    observed = abs(differences.sum()) * (1.0 - 1e-12)
    if differences.size <= _EXACT_UP_TO:
        patterns = np.array(list(itertools.product((-1.0, 1.0), repeat=differences.size)))
        return float(np.mean(np.abs(patterns @ differences) >= observed))
    generator = np.random.default_rng(seed)
    extreme = 1
    for start in range(0, num_patterns, 1000):
        size = min(1000, num_patterns - start)
        signs = generator.choice((-1.0, 1.0), size=(size, differences.size))
        extreme += int(np.sum(np.abs(signs @ differences) >= observed))
    return extreme / (num_patterns + 1)


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
