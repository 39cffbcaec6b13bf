"""How sure a difference between methods is, when each was trained with several seeds and measured on the same problems.

The unit of replication is the **seed**: a training run. Problems are crossed with it, since every run is measured on
the same ones. For values y[s, p] (S seeds, P problems), such as paired differences between two methods, the model is

    y[s, p] = mean + seed[s] + problem[p] + rest[s, p],

all three random. With mean squares MS_seed, MS_problem, MS_rest of the two-way table without replicates,

    var(mean) = MS_seed / (S P)                              over other seeds, on these problems;
    var(mean) = (MS_seed + MS_problem - MS_rest) / (S P)     over other seeds and other problems (Clark 1973, quasi-F);
    var(mean) = MS_rest / (S P)                              what is left if seeds and problems did not matter at all.

The first gives Student's t over the seeds' means, S - 1 degrees of freedom; the second a t with Satterthwaite's degrees
of freedom; the third has (S - 1)(P - 1). The widest decides, so a claim holds for other seeds in any case, and for
other problems too, and means of a few seeds that happen to coincide make no difference certain.
Treating the problems of one run as the replicates, as a bootstrap over problems alone does, mistakes the noise between
runs for an effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq

from relax_rl.errors import DataError

__all__ = ["SeededMean", "detectable_difference", "holm", "seeded_mean", "seeds_needed"]

_MOST_SEEDS = 1000
"""More are not counted: nobody trains them."""
_QUADRATURE_POINTS = 2000


@dataclass(frozen=True)
class SeededMean:
    """A mean over seeds and problems.

    Attributes:
        value: the mean.
        low, high: its interval; with a single seed it covers other problems only.
        p_value: p-value of the mean being 0, two-sided; NaN with a single seed, which says nothing about another.
        num_seeds, num_problems: S and P.
        seed_deviation: standard deviation between the seeds' means; NaN with a single seed.
        problem_variance: the part of the mean's variance that the choice of problems makes and no seed lowers.
    """

    value: float
    low: float
    high: float
    p_value: float
    num_seeds: int
    num_problems: int
    seed_deviation: float
    problem_variance: float


@dataclass(frozen=True)
class _MeanSquares:
    seed: float
    problem: float
    rest: float


def seeded_mean(values: np.ndarray | Sequence[Sequence[float]], *, confidence: float = 0.95) -> SeededMean | None:
    """Mean of values (S, P), with an interval and the p-value of 0 (module docstring).

    Args:
        values: one row a seed, one column a problem; a problem with a NaN (no value) in any row is left out.

    Returns:
        None when no problem is left.

    Raises:
        DataError: not a table, or an infinite value.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise DataError(f"need a table of finite values, a row a seed and a column a problem; got {table.shape}.")
    table = table[:, ~np.isnan(table).any(axis=0)]
    if table.size == 0:
        return None
    num_seeds, num_problems = table.shape
    squares = _mean_squares(table)
    value = float(table.mean())
    half_width, p_value = _worst(value, squares, num_seeds, num_problems, confidence)
    return SeededMean(
        value=value,
        low=value - half_width,
        high=value + half_width,
        p_value=p_value,
        num_seeds=num_seeds,
        num_problems=num_problems,
        seed_deviation=math.sqrt(squares.seed / num_problems),
        problem_variance=max(0.0, squares.problem - squares.rest) / table.size if num_seeds > 1 else math.nan,
    )


def _mean_squares(table: np.ndarray) -> _MeanSquares:
    """Mean squares of a table (S, P); NaN without degrees of freedom, but with one seed ``problem`` is the variance."""
    num_seeds, num_problems = table.shape
    mean, by_seed, by_problem = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_problem[None, :] + mean

    def mean_square(total: float, dof: int) -> float:
        return float(total) / dof if dof else math.nan

    return _MeanSquares(
        seed=mean_square(num_problems * np.sum((by_seed - mean) ** 2), num_seeds - 1),
        problem=mean_square(num_seeds * np.sum((by_problem - mean) ** 2), num_problems - 1),
        rest=mean_square(np.sum(rest**2), (num_seeds - 1) * (num_problems - 1)),
    )


def _worst(
    value: float, squares: _MeanSquares, num_seeds: int, num_problems: int, confidence: float
) -> tuple[float, float]:
    """Half-width and p-value of the more cautious of the tests that the table allows."""
    count = num_seeds * num_problems
    tests = []
    if num_seeds > 1:
        tests.append((squares.seed / count, num_seeds - 1.0))
        if num_problems > 1:
            # Means of seeds that happen to coincide: they cannot be surer than the scatter that they are means of.
            tests.append((squares.rest / count, (num_seeds - 1.0) * (num_problems - 1.0)))
        if num_problems > 1 and squares.problem > squares.rest:
            total = squares.seed + squares.problem - squares.rest
            tests.append((total / count, _degrees_of_freedom(total, squares, num_seeds, num_problems)))
    elif num_problems > 1:
        tests.append((squares.problem / count, num_problems - 1.0))
    quantile = (1 + confidence) / 2
    half_width = max((math.sqrt(variance) * stats.t.ppf(quantile, dof) for variance, dof in tests), default=0.0)
    if num_seeds == 1:
        return float(half_width), math.nan
    return float(half_width), max(_p_value(value, variance, dof) for variance, dof in tests)


def _degrees_of_freedom(total: float, squares: _MeanSquares, num_seeds: int, num_problems: int) -> float:
    """Satterthwaite's, for the sum of the mean squares with their signs."""
    parts = (
        (squares.seed, num_seeds - 1),
        (squares.problem, num_problems - 1),
        (squares.rest, (num_seeds - 1) * (num_problems - 1)),
    )
    # A sum of positive terms never has fewer than the least of them; a difference could come near to none at all.
    least = min(num_seeds, num_problems) - 1
    return max(least, total**2 / sum(square**2 / dof for square, dof in parts))


def _p_value(value: float, variance: float, dof: float) -> float:
    if variance <= 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / math.sqrt(variance), dof))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down (1979): the chance of any false claim stays below alpha.

    The i-th smallest of m is multiplied by m - i + 1, and none may fall below a smaller one. NaN stays NaN and does not
    count.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


def seeds_needed(
    difference: float, seed_deviation: float, problem_variance: float = 0.0, *, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Seeds of each method with which a true difference of this size would be seen with this power.

    By the noncentral t with n - 1 degrees of freedom and the standard error sqrt(deviation^2 / n + problem part).
    It is an estimate from an estimate: read it as an order of magnitude.

    Args:
        difference: between the methods.
        seed_deviation: standard deviation of the paired difference between seeds.
        problem_variance: as in `SeededMean`.
        alpha: level of the two-sided test; divide it by the number of comparisons.

    Returns:
        None when not even 1000 seeds would do: the difference is too small, or lost in the choice of problems.
    """
    if difference == 0 or not _is_seen(difference, seed_deviation, problem_variance, _MOST_SEEDS, alpha, power):
        return None
    low, high = 1, _MOST_SEEDS  # never enough, always enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = _is_seen(difference, seed_deviation, problem_variance, middle, alpha, power)
        low, high = (low, middle) if enough else (middle, high)
    return high


def detectable_difference(
    num_seeds: int, seed_deviation: float, problem_variance: float = 0.0, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that so many seeds show with this power; arguments as for `seeds_needed`."""
    error = math.sqrt(seed_deviation**2 / num_seeds + problem_variance)
    shift: Any = brentq(lambda shift: _power(shift, num_seeds - 1, alpha) - power, 0.0, 1e4)
    return error * float(shift)


def _is_seen(
    difference: float, deviation: float, problem_variance: float, num_seeds: int, alpha: float, power: float
) -> bool:
    error = math.sqrt(deviation**2 / num_seeds + problem_variance)
    return error == 0 or _power(abs(difference) / error, num_seeds - 1, alpha) >= power


def _power(shift: float, dof: float, alpha: float) -> float:
    """Power of the two-sided t-test, for a true mean of so many standard errors."""
    # The noncentral t given its chi-square is normal; scipy's own distribution gives NaN far out in its tails.
    levels = (np.arange(_QUADRATURE_POINTS) + 0.5) / _QUADRATURE_POINTS
    bound = stats.t.ppf(1 - alpha / 2, dof) * np.sqrt(stats.chi2.ppf(levels, dof) / dof)
    return float(np.mean(special.ndtr(shift - bound) + special.ndtr(-shift - bound)))
