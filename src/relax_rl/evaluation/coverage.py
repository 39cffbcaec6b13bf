"""How many of a problem's solutions a policy finds: pure numbers from the counts of its right samples by solution.

The input is the number of right samples in each mode (`relax_rl.rewards.Verdict.mode`), in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from relax_rl.errors import DataError
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import ProblemResult

__all__ = ["COVERAGE", "coverage_value", "effective_modes", "modes_at_k"]

COVERAGE = ("effective_modes", "top_mode", "all_wrong", "all_right")
"""Metrics that `coverage_value` reads off one problem, beside ``modes@k``."""


def modes_at_k(num_samples: int, counts: Sequence[int], k: int) -> float:
    """Expected number of different solutions among k samples, unbiased, from n samples of one problem.

    The sum over modes of ``1 - C(n - c_z, k) / C(n, k)``, c_z right samples of n in mode z: rarefaction (Hurlbert
    1971), as pass@k is for one mode. It never extrapolates: a mode that none of the n samples found counts for nothing.

    Args:
        num_samples: n, the samples that were scored.
        counts: right samples in each mode, each at least 1.
        k: samples drawn, 1 <= k <= n.

    Raises:
        DataError: k > n, or counts that cannot be.
    """
    if sum(counts) > num_samples:
        raise DataError(f"{sum(counts)} right samples of {num_samples} cannot be; count each sample in one mode.")
    return sum((pass_at_k(num_samples, count, k) for count in counts), 0.0)


def effective_modes(counts: Sequence[int]) -> float:
    """exp(H) of the right samples' distribution over modes: as many equally frequent modes have its entropy.

    Biased low where few samples are right, since rare modes are missed. 0 without a right sample.
    """
    total = sum(counts)
    return math.exp(-sum(c / total * math.log(c / total) for c in counts)) if total else 0.0


def coverage_value(metric: str, problem: ProblemResult) -> float:
    """``modes@k`` or one of `COVERAGE` of one problem; NaN where it has none.

    ``effective_modes`` and ``top_mode`` are of the right samples, so that a problem without any has none.
    """
    kind, _, k = metric.partition("@")
    if kind in ("all_wrong", "all_right"):
        wanted = 0 if kind == "all_wrong" else problem.num_scored
        return float(problem.num_correct == wanted) if problem.num_scored else math.nan
    counts = problem.modes
    if counts is None:
        return math.nan
    if kind == "modes":
        return modes_at_k(problem.num_scored, counts, int(k)) if problem.num_scored >= int(k) else math.nan
    if not counts:
        return math.nan
    return effective_modes(counts) if kind == "effective_modes" else max(counts) / sum(counts)
