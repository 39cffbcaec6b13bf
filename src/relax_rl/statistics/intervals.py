"""95 % intervals by bootstrap over problems.

The k samples of a problem are not independent draws of a benchmark's difficulty, so the unit that is resampled is the
problem. Everything here takes one value a problem, with an optional weight: a mean over tokens is the weighted mean of
the problems' token means with the token counts as weights, and resampling keeps each pair together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError

__all__ = ["Estimate", "bootstrap_difference", "bootstrap_mean"]

_ELEMENTS_PER_CHUNK = 4_000_000
"""Bounds the memory of one block of resampled indices (32 MB of int64)."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the estimate itself, not the mean of the resamples.
        low, high: ends of the percentile interval.
        num_problems: problems behind it, after those without a value were left out.
    """

    value: float
    low: float
    high: float
    num_problems: int = 0


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    weights: Sequence[float] | np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """(Weighted) mean over problems with its percentile bootstrap interval.

    Args:
        values: one value a problem; NaN marks a problem without one, which is left out.
        weights: non-negative weight of each problem; equal when None.

    Returns:
        The estimate, or None when no problem has a value (nothing was measured, which is not zero). With a single
        problem the interval is that point.

    Raises:
        DataError: values and weights of different lengths, an infinite value, or a bad confidence.
    """
    values, weights = _checked(values, weights)
    _check_resampling(confidence, num_resamples)
    kept = ~np.isnan(values) & (weights > 0)
    values, weights = values[kept], weights[kept]
    if values.size == 0:
        return None
    resampled = _resampled_means(values, weights, num_resamples, np.random.default_rng(seed))
    low, high = _percentiles(resampled, confidence)
    return Estimate(_weighted_mean(values, weights), low, high, int(values.size))


def bootstrap_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    first_weights: Sequence[float] | np.ndarray | None = None,
    second_weights: Sequence[float] | np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """(Weighted) mean of ``second`` minus that of ``first``, over the same problems in the same order, paired.

    Both sides see the same resampled problems. That removes the difficulty of the problems from the noise, so two
    policies can differ significantly although their intervals overlap. A problem that lacks a value (NaN) or has no
    weight on either side is left out; None when no problem is left.
    """
    first, first_weights = _checked(first, first_weights)
    second, second_weights = _checked(second, second_weights)
    if first.shape != second.shape:
        raise DataError(f"a paired difference needs the same problems; got {first.size} and {second.size} values.")
    _check_resampling(confidence, num_resamples)
    kept = ~np.isnan(first) & ~np.isnan(second) & (first_weights > 0) & (second_weights > 0)
    if not kept.any():
        return None
    sides = [(first[kept], first_weights[kept]), (second[kept], second_weights[kept])]
    # Generators of one seed and as many problems draw the same problems: this is the pairing.
    before, after = (_resampled_means(*side, num_resamples, np.random.default_rng(seed)) for side in sides)
    low, high = _percentiles(after - before, confidence)
    return Estimate(_weighted_mean(*sides[1]) - _weighted_mean(*sides[0]), low, high, int(kept.sum()))


def _checked(values, weights) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or values.shape != weights.shape:
        raise DataError(f"need one value and one weight a problem; got shapes {values.shape} and {weights.shape}.")
    if np.isinf(values).any() or not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError("values must be finite or NaN (no value), and weights finite and not negative.")
    return values, weights


def _check_resampling(confidence: float, num_resamples: int) -> None:
    if not 0.0 < confidence < 1.0 or num_resamples < 1:
        raise DataError(f"need 0 < confidence < 1 and num_resamples > 0; got {confidence} and {num_resamples}.")


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sum(values * weights) / np.sum(weights))


def _percentiles(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return float(low), float(high)


def _resampled_means(
    values: np.ndarray, weights: np.ndarray, num_resamples: int, generator: np.random.Generator
) -> np.ndarray:
    rows_per_chunk = max(1, _ELEMENTS_PER_CHUNK // values.size)
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, rows_per_chunk):
        stop = min(start + rows_per_chunk, num_resamples)
        index = generator.integers(0, values.size, size=(stop - start, values.size))
        drawn = weights[index]
        means[start:stop] = np.sum(values[index] * drawn, axis=1) / np.sum(drawn, axis=1)
    return means
