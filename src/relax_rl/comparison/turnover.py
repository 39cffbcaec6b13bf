"""The problems that a policy lost against another one, and those that it gained.

A problem is solved by an evaluation if at least one of its samples is right. Among k samples that is partly luck: two
evaluations of one policy differ, too. So beside the shares of problems lost and gained stands the share that chance
alone would have lost: given the right samples of a problem in both evaluations together, every way to deal them out is
equally likely if the policies are alike, and the problem is lost if all of them fall to the first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import comb

from relax_rl.comparison.pairs import require_comparable
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["ChangedProblem", "Turnover", "scored_pairs", "share_by_chance", "turnover"]


@dataclass(frozen=True)
class ChangedProblem:
    """A problem that one of two evaluations solved.

    Attributes:
        id: id of the problem.
        before, after: right samples in the first and in the second evaluation; one of them is 0.
        by_chance: probability of this under policies that are alike, given the right samples of both.
    """

    id: str
    before: int
    after: int
    by_chance: float


@dataclass(frozen=True)
class Turnover:
    """Changes in the problems that both evaluations have, and scored a sample of.

    Attributes:
        lost: share solved by the first and not by the second, with its 95 % interval by bootstrap over problems.
        gained: share solved by the second and not by the first.
        lost_by_chance, gained_by_chance: shares to be expected of policies that are alike.
        lost_problems, gained_problems: their ids, the least likely by chance first.
    """

    lost: Estimate
    gained: Estimate
    lost_by_chance: float
    gained_by_chance: float
    lost_problems: tuple[ChangedProblem, ...]
    gained_problems: tuple[ChangedProblem, ...]


def turnover(
    first: EvaluationResult, second: EvaluationResult, *, despite: Collection[str] = (), seed: int = 0
) -> Turnover | None:
    """Problems lost and gained from the first evaluation to the second.

    Args:
        despite: settings that may differ, as for `compare_results`.
        seed: seed of the resamples.

    Returns:
        None where no problem has a scored sample in both.

    Raises:
        DataError: the two may not be compared.
        ConfigError: a name in ``despite`` that cannot differ.
    """
    require_comparable(first, second, despite)
    pairs = scored_pairs(first, second)
    lost = [_changed(before, after) for before, after in pairs if before.num_correct and not after.num_correct]
    gained = [_changed(before, after) for before, after in pairs if after.num_correct and not before.num_correct]
    shares = [
        bootstrap_mean([float(before.id in {problem.id for problem in found}) for before, _ in pairs], seed=seed)
        for found in (lost, gained)
    ]
    if shares[0] is None or shares[1] is None:
        return None
    return Turnover(
        lost=shares[0],
        gained=shares[1],
        lost_by_chance=sum(_all_fall_to(before, after) for before, after in pairs) / len(pairs),
        gained_by_chance=sum(_all_fall_to(after, before) for before, after in pairs) / len(pairs),
        lost_problems=tuple(sorted(lost, key=lambda problem: problem.by_chance)),
        gained_problems=tuple(sorted(gained, key=lambda problem: problem.by_chance)),
    )


def scored_pairs(first: EvaluationResult, second: EvaluationResult) -> list[tuple[ProblemResult, ProblemResult]]:
    """The problems that both evaluations have and scored a sample of, in the order of the first."""
    others = {problem.id: problem for problem in second.per_problem}
    pairs = [(problem, others[problem.id]) for problem in first.per_problem if problem.id in others]
    return [(before, after) for before, after in pairs if before.num_scored and after.num_scored]


def _changed(before: ProblemResult, after: ProblemResult) -> ChangedProblem:
    by_chance = _all_fall_to(before, after) if before.num_correct else _all_fall_to(after, before)
    return ChangedProblem(before.id, before.num_correct, after.num_correct, by_chance)


def _all_fall_to(one: ProblemResult, other: ProblemResult) -> float:
    """Probability that all right samples of both are among those of one, if each sample is equally likely to be."""
    return share_by_chance(one.num_correct + other.num_correct, one.num_scored, other.num_scored)


def share_by_chance(right: int, num_own: int, num_others: int) -> float:
    """Probability that all of ``right`` samples are among ``num_own`` of ``num_own + num_others``; 0 without any."""
    return comb(num_own, right) / comb(num_own + num_others, right) if right else 0.0
