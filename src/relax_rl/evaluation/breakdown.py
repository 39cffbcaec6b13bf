"""Means by what problems are examples of, and metrics of variants: worst case, robustness, consistency, gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from relax_rl.evaluation.left_to_a_model import COUNTS
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_difference, bootstrap_mean
from relax_rl.tasks.base import Problem

__all__ = ["break_down", "by_unit", "difference_by_unit", "question_of", "units_of", "units_of_results"]

_ALONE = "\0"
"""Begins the unit of a problem that stands alone."""

TWINS = ("text", "picture")
"""Values of the facet `twin`: the same question in words alone, and in a picture alone."""


def units_of(problems: Sequence[Problem]) -> list[str] | None:
    """The independent unit of each problem: its group, or itself; None: every problem stands alone."""
    if not any(problem.group for problem in problems):
        return None
    return [problem.group or _alone(problem.id) for problem in problems]


def question_of(unit: str) -> str:
    """The question that a unit is; "" for a problem that stands alone."""
    return "" if unit.startswith(_ALONE) else unit


def units_of_results(results: Sequence[ProblemResult]) -> list[str] | None:
    """The same as `units_of`, from the results of problems."""
    if not any(result.unit for result in results):
        return None
    return [result.unit or _alone(result.id) for result in results]


def _alone(identity: str) -> str:
    return f"{_ALONE}{identity}"


def by_unit(
    values: np.ndarray, weights: np.ndarray | None, units: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of problems as weighted means of their units, with the sums of their weights; unchanged without units.

    The weighted mean over all stays the same, and a bootstrap resamples units.
    """
    if units is None:
        return values, weights
    weights = np.ones(len(values)) if weights is None else weights
    _, places = np.unique(np.asarray(units), return_inverse=True)
    known = ~np.isnan(values)
    sums = np.bincount(places, np.where(known, values * weights, 0.0))
    totals = np.bincount(places, np.where(known, weights, 0.0))
    return np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0), totals


def difference_by_unit(
    first: np.ndarray,
    second: np.ndarray,
    first_weights: np.ndarray | None,
    second_weights: np.ndarray | None,
    units: Sequence[str] | None,
    *,
    seed: int = 0,
) -> Estimate | None:
    """Mean of ``second - first`` over problems, paired, with its interval over units."""
    # A problem without a value on one side counts on neither.
    gone = np.isnan(first) | np.isnan(second)
    first, second = (np.where(gone, np.nan, side) for side in (first, second))
    before, after = by_unit(first, first_weights, units), by_unit(second, second_weights, units)
    return bootstrap_difference(before[0], after[0], before[1], after[1], seed=seed)


def break_down(
    problems: Sequence[Problem], samples: Sequence[Sequence[Sample]], *, seed: int = 0
) -> dict[str, Estimate]:
    """Further means of an evaluation, each with its interval over units; empty for problems without groups and facets.

    ``NAME [FACET=VALUE]`` is a mean over the problems of a facet. Of problems with variants there are ``worst`` (share
    of questions that a sample of each variant gets right, over the samples in their order), ``robustness`` (worst
    divided by the average), and, for facets ``twin`` of text and picture, ``modality_gap`` (text minus picture). With
    several samples there is ``consistency``: the share of pairs of samples of one problem with the same answer.

    Args:
        samples: one list a problem, graded, all of the same length.
    """
    units = units_of(problems)
    if units is None and not any(problem.facets for problem in problems):
        return {}
    scores = {"mean@1": np.array([[_score(sample) for sample in row] for row in samples])}
    for rule in (name for name in samples[0][0].official if not name.endswith(COUNTS)):
        scores[f"official/{rule}"] = np.array([[sample.official[rule] for sample in row] for row in samples])
    found: dict[str, Estimate | None] = {}
    for name, table in scores.items():
        found |= _variants(name, table, units, seed) if units is not None else {}
    if units is not None:
        found["modality_gap"] = _gap(problems, scores["mean@1"], units, seed)
        agreement = np.array([_agreement(row) for row in samples])
        found["consistency"] = bootstrap_mean(*by_unit(agreement, None, units), seed=seed)
    for name, table in scores.items():
        found |= _facets(name, table, problems, units, seed)
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _variants(name: str, table: np.ndarray, units: Sequence[str], seed: int) -> Mapping[str, Estimate | None]:
    prefix = "" if name == "mean@1" else f"{name} "
    groups: dict[str, list[int]] = {}
    for place, unit in enumerate(units):
        groups.setdefault(unit, []).append(place)
    worst = np.array([table[rows].min(axis=0).mean() for rows in groups.values()])
    average = np.array([table[rows].mean() for rows in groups.values()])
    # The ratio of two means is the mean of the ratios, weighted by what they are divided by.
    ratio = np.divide(worst, average, out=np.zeros_like(worst), where=average > 0)
    return {
        f"{prefix}worst": bootstrap_mean(worst, seed=seed),
        f"{prefix}robustness": bootstrap_mean(ratio, average, seed=seed),
    }


def _gap(problems: Sequence[Problem], table: np.ndarray, units: Sequence[str], seed: int) -> Estimate | None:
    sides: list[dict[str, list[float]]] = [{}, {}]
    for problem, row, unit in zip(problems, table, units, strict=True):
        for side, twin in zip(sides, TWINS, strict=True):
            if twin in problem.facets.get("twin", ()):
                side.setdefault(unit, []).append(float(row.mean()))
    text, picture = sides
    both = [unit for unit in text if unit in picture]
    return bootstrap_mean([float(np.mean(text[unit]) - np.mean(picture[unit])) for unit in both], seed=seed)


def _facets(
    name: str, table: np.ndarray, problems: Sequence[Problem], units: Sequence[str] | None, seed: int
) -> dict[str, Estimate | None]:
    places: dict[tuple[str, str], list[int]] = {}
    for place, problem in enumerate(problems):
        for facet, values in problem.facets.items():
            for value in values:
                places.setdefault((facet, value), []).append(place)
    means = table.mean(axis=1)
    found: dict[str, Estimate | None] = {}
    for (facet, value), rows in sorted(places.items()):
        chosen = None if units is None else [units[row] for row in rows]
        found[f"{name} [{facet}={value}]"] = bootstrap_mean(*by_unit(means[rows], None, chosen), seed=seed)
    return found


def _agreement(row: Sequence[Sample]) -> float:
    """Share of the pairs with the same answer; no answer agrees with none. NaN for one sample."""
    pairs = [
        first.answer_class is not None and first.answer_class == second.answer_class
        for first, second in combinations(row, 2)
    ]
    return float(np.mean(pairs)) if pairs else float("nan")


def _score(sample: Sample) -> float:
    """A sample without a score counts as wrong here: a worst case that leaves it out would be a better one."""
    return sample.score or 0.0
