"""Whether a mean of paired differences is zero: the sign-flip test, and the interval that belongs to it.

If the two sides were alike, each pair's difference could as well have had the other sign. The test compares the mean
difference with its means under flipped signs: all 2^n of them for few pairs, otherwise a random sample. The interval
holds every shift that the test would not reject, so that it excludes 0 exactly where p is below 1 - confidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from relax_rl.errors import DataError

__all__ = ["SignFlipTest", "sign_flip_test"]

_MOST_EXACT = 12
_NUM_FLIPS = 10_000


@dataclass(frozen=True)
class SignFlipTest:
    """A mean of paired differences.

    Attributes:
        value: the mean.
        low, high: its interval; infinite where there are too few pairs for this confidence (below 6 for 95 %).
        p_value: two-sided; the smallest possible is 2 / 2^n.
        num_pairs: n, those with a value on both sides.
    """

    value: float
    low: float
    high: float
    p_value: float
    num_pairs: int


def sign_flip_test(
    differences: Sequence[float] | np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> SignFlipTest | None:
    """Test that paired differences have mean zero.

    Args:
        differences: one a pair; NaN marks a pair without one, which is left out.
        seed: seed of the random flips, used beyond 12 pairs.

    Returns:
        None when no pair is left.

    Raises:
        DataError: an infinite difference.
    """
    values = np.asarray(differences, dtype=np.float64)
    if np.isinf(values).any():
        raise DataError("Paired differences must be finite, or NaN where there is none.")
    values = values[~np.isnan(values)]
    if values.size == 0:
        return None
    signs = _signs(values.size, seed)
    mean = float(values.mean())
    # Under a shift d every flipped mean is a - d b: the sums are made once for all shifts.
    flipped, balance = signs @ values / values.size, signs.mean(axis=1)

    slack = 1e-12 * np.abs(values).max()  # means that differ by rounding are equal

    def p_value(shift: float) -> float:
        return float(np.mean(np.abs(flipped - shift * balance) >= abs(mean - shift) - slack))

    alpha = 1.0 - confidence
    if p_value(mean + 1e6 * (np.ptp(values) + abs(mean) + 1e-300)) > alpha:
        low, high = -math.inf, math.inf
    else:
        low, high = (_last_not_rejected(p_value, values, mean, side, alpha) for side in (-1.0, 1.0))
    return SignFlipTest(mean, low, high, p_value(0.0), int(values.size))


def _signs(count: int, seed: int) -> np.ndarray:
    """(R, n) of -1 and 1; the signs as they are come first, so that no p-value is zero."""
    if count <= _MOST_EXACT:
        return 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    random = np.random.default_rng(seed).integers(0, 2, size=(_NUM_FLIPS - 1, count))
    return np.vstack([np.ones(count), 1.0 - 2.0 * random])


def _last_not_rejected(
    p_value: Callable[[float], float], values: np.ndarray, mean: float, side: float, alpha: float
) -> float:
    """The farthest shift on one side of the mean with p > alpha, by bisection; p falls with the distance.

    A range away from the mean all differences have one sign, and p is as small as it gets.
    """
    inside, outside = 0.0, float(np.ptp(values))
    if outside == 0.0:
        return mean
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if p_value(mean + side * middle) > alpha else (inside, middle)
    return mean + side * inside
