"""From readings under conditions to estimates with intervals over independent questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from relax_rl.evaluation.breakdown import by_unit, difference_by_unit
from relax_rl.evaluation.sight.result import ConditionSight, SiteSight
from relax_rl.evaluation.sight.sums import NUM_MODES, Sums, leading_modes, mean_angle, unexplained
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.latent.images.conditions import Condition
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["ProblemSight", "SiteReading", "chance_angle", "condition_sight"]

_TENTHS = 10
_ENDS = 8
_RESAMPLES = 100
"""Resamples of the angles, whose operators are fitted again in each."""
_HALVES = 20


@dataclass(frozen=True)
class SiteReading:
    """One problem at one site.

    Attributes:
        distance: mean over its tokens of the distance of its states from those under the true image.
        apart: mean distance of its states under the true image from those of another problem, token by token.
        sums: sums of the lifted states; None without a pair.
        dsd: by estimator; NaN where undefined.
    """

    distance: float
    apart: float
    sums: Sums | None
    dsd: Mapping[str, float]


@dataclass(frozen=True)
class ProblemSight:
    """One problem under one condition.

    Attributes:
        unit: the independent question that it belongs to.
        kl: (T,) in nats a token.
        same_choice: (T,) 1 where the most likely token is that under the true image.
        sites: by name.
    """

    unit: str
    kl: np.ndarray
    same_choice: np.ndarray
    sites: Mapping[str, SiteReading] = field(default_factory=dict[str, SiteReading])


Readings = Mapping[int, ProblemSight]
"""By the position of the problem, under one condition."""


def condition_sight(condition: Condition, found: Readings, true: Readings, *, seed: int = 0) -> ConditionSight:
    """The effect of a condition, in the problems that can be shown under it.

    Args:
        found, true: values under this condition, and under the true image.
    """
    rows = list(found.values())
    units = [row.unit for row in rows]
    is_true = condition.kind == "true"
    names = list(rows[0].sites) if rows else []
    return ConditionSight(
        name=condition.name,
        about=condition.about,
        num_problems=len(rows),
        kl=None if is_true else _mean_of_tokens([row.kl for row in rows], units, seed),
        kl_first=None if is_true else _mean_of_tokens([row.kl[:_ENDS] for row in rows], units, seed),
        kl_last=None if is_true else _mean_of_tokens([row.kl[-_ENDS:] for row in rows], units, seed),
        kl_profile=() if is_true else _profile([row.kl for row in rows]),
        same_choice=None if is_true else _mean_of_tokens([row.same_choice for row in rows], units, seed),
        sites=tuple(_site(name, found, true, seed, is_true=is_true) for name in names),
    )


def _mean_of_tokens(values: Sequence[np.ndarray], units: Sequence[str], seed: int) -> Estimate | None:
    means = np.array([row.mean() if len(row) else np.nan for row in values])
    weights = np.array([float(len(row)) for row in values])
    return bootstrap_mean(*by_unit(means, weights, units), seed=seed)


def _profile(values: Sequence[np.ndarray]) -> tuple[float | None, ...]:
    """Means over tenths of the completions; None for a tenth that no completion has a token in."""
    places = np.concatenate([np.arange(len(row)) * _TENTHS // max(1, len(row)) for row in values])
    every = np.concatenate(list(values))
    return tuple(float(every[places == tenth].mean()) if (places == tenth).any() else None for tenth in range(_TENTHS))


def _site(name: str, found: Readings, true: Readings, seed: int, *, is_true: bool) -> SiteSight:
    pairs = [(row.sites[name], true[place].sites[name], row.unit) for place, row in found.items()]
    units = [unit for _, _, unit in pairs]
    estimators = list(pairs[0][0].dsd)
    values = {one: np.array([now.dsd[one] for now, _, _ in pairs]) for one in estimators}
    before = {one: np.array([then.dsd[one] for _, then, _ in pairs]) for one in estimators}
    error, change = _errors(pairs, seed)
    return SiteSight(
        site=name,
        distance=None if is_true else _ratio([(now.distance, now.apart) for now, _, _ in pairs], units, seed),
        error=error,
        error_change=None if is_true else change,
        angle=None if is_true else _angle(pairs, seed),
        dsd={one: bootstrap_mean(*by_unit(values[one], None, units), seed=seed) for one in estimators},
        dsd_change={}
        if is_true
        else {one: difference_by_unit(before[one], values[one], None, None, units, seed=seed) for one in estimators},
    )


_Pairs = Sequence[tuple[SiteReading, SiteReading, str]]
"""Values of each problem under the condition and under the true image, and the unit of the problem."""


def _ratio(pairs: Sequence[tuple[float, float]], units: Sequence[str], seed: int) -> Estimate | None:
    """Sum of the first numbers over the sum of the second."""
    over, under = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    values = np.divide(over, under, out=np.full(len(over), np.nan), where=under > 0)
    return bootstrap_mean(*by_unit(values, under, units), seed=seed)


def _whole(pairs: _Pairs) -> tuple[list[Sums], list[Sums], list[str]]:
    """Sums under the condition and under the true image, and the units, of problems that have both."""
    now, then, units = list[Sums](), list[Sums](), list[str]()
    for after, before, unit in pairs:
        if after.sums is not None and before.sums is not None:
            now.append(after.sums)
            then.append(before.sums)
            units.append(unit)
    return now, then, units


def _errors(pairs: _Pairs, seed: int) -> tuple[Estimate | None, Estimate | None]:
    """Unexplained share of variance by an operator of other questions under the true image, and its change."""
    after, before, units = _whole(pairs)
    sides = (after, before)
    folds = {unit: place % 2 for place, unit in enumerate(dict.fromkeys(units))}
    if len(folds) < 2:
        return None, None
    numbers = np.full((4, len(units)), np.nan)
    for fold in (0, 1):
        inside = [place for place, unit in enumerate(units) if folds[unit] == fold]
        outside = [sides[1][place] for place, unit in enumerate(units) if folds[unit] != fold]
        fitted = Sums.stacked(outside).weighted(torch.ones(1, len(outside), dtype=torch.float64))
        operator = least_squares_operator(fitted.statistics).matrix[0]
        mean = fitted.total[0] / fitted.statistics.num_pairs[0].clamp_min(1)
        for side in (0, 1):
            held = Sums.stacked([sides[side][place] for place in inside])
            error, spread = unexplained(held, operator, mean)
            numbers[2 * side, inside], numbers[2 * side + 1, inside] = error.cpu().numpy(), spread.cpu().numpy()
    now, then = (
        np.divide(
            numbers[2 * side], numbers[2 * side + 1], out=np.full(len(units), np.nan), where=numbers[2 * side + 1] > 0
        )
        for side in (0, 1)
    )
    return (
        bootstrap_mean(*by_unit(now, numbers[1], units), seed=seed),
        difference_by_unit(then, now, numbers[3], numbers[1], units, seed=seed),
    )


def _angle(pairs: _Pairs, seed: int) -> Estimate | None:
    """Between the leading modes under the condition and under the true image, of the same resampled questions."""
    after, before, of = _whole(pairs)
    units = list(dict.fromkeys(of))
    # The modes of so few observables span all of them.
    if len(units) < 2 or before[0].statistics.num_observables <= NUM_MODES:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [np.ones(len(units)), *(np.bincount(row, minlength=len(units)) for row in _draws(rng, len(units)))]
    )
    of_problem = torch.tensor(drawn[:, [units.index(unit) for unit in of]], dtype=torch.float64)
    now, then = (leading_modes(Sums.stacked(held).weighted(of_problem)) for held in (after, before))
    angles = [mean_angle(first, second) for first, second in zip(now, then, strict=True)]
    low, high = np.quantile(angles[1:], [0.025, 0.975])
    return Estimate(angles[0], float(low), float(high), len(units))


def _draws(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(0, size, size=(_RESAMPLES, size))


def chance_angle(true: Readings, site: str, *, seed: int = 0) -> float | None:
    """Mean angle in degrees between the leading modes of two random halves of the questions under the true image."""
    whole = [(row.sites[site].sums, row.unit) for row in true.values()]
    held = [(sums, unit) for sums, unit in whole if sums is not None]
    units = list(dict.fromkeys(unit for _, unit in held))
    if len(units) < 2 or held[0][0].statistics.num_observables <= NUM_MODES:
        return None
    rng = np.random.default_rng(seed)
    halves: list[np.ndarray] = []
    for _ in range(_HALVES):
        first = np.zeros(len(units))
        first[rng.permutation(len(units))[: len(units) // 2]] = 1.0
        halves += [first, 1.0 - first]
    counts = torch.tensor(np.stack(halves)[:, [units.index(unit) for _, unit in held]], dtype=torch.float64)
    bases = leading_modes(Sums.stacked([sums for sums, _ in held]).weighted(counts))
    return float(np.mean([mean_angle(bases[place], bases[place + 1]) for place in range(0, len(bases), 2)]))
