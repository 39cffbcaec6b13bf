"""How many solutions of a problem a policy lost against another one, and how many it gained.

A solution is found by an evaluation if a right sample has its mode (`relax_rl.rewards.Verdict.mode`). As with
problems (`.turnover`), luck takes part, so each number stands beside the number that chance alone would give.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from relax_rl.comparison.pairs import require_comparable
from relax_rl.comparison.turnover import scored_pairs, share_by_chance
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["SolutionTurnover", "solution_turnover"]


@dataclass(frozen=True)
class SolutionTurnover:
    """Solutions lost and gained, as means over the problems that both evaluations scored a sample of.

    Attributes:
        lost: solutions of a problem that the first found and the second did not, with its 95 % interval by bootstrap
            over problems.
        gained: solutions that the second found and the first did not.
        lost_by_chance, gained_by_chance: expected numbers if the policies are alike, given the right samples of both.
    """

    lost: Estimate
    gained: Estimate
    lost_by_chance: float
    gained_by_chance: float


def solution_turnover(
    first: EvaluationResult, second: EvaluationResult, *, despite: Collection[str] = (), seed: int = 0
) -> SolutionTurnover | None:
    """Solutions lost and gained from the first evaluation to the second.

    Args:
        despite: settings that may differ, as for `compare_results`.
        seed: seed of the resamples.

    Returns:
        None where an evaluation does not say which solutions it found: its verifier has no modes, or an earlier version
        wrote it.

    Raises:
        DataError: the two may not be compared.
        ConfigError: a name in ``despite`` that cannot differ.
    """
    require_comparable(first, second, despite)
    pairs = scored_pairs(first, second)
    if not pairs or any(problem.mode_keys is None for pair in pairs for problem in pair):
        return None
    lost = bootstrap_mean([float(len(_found(before).keys() - _found(after))) for before, after in pairs], seed=seed)
    gained = bootstrap_mean([float(len(_found(after).keys() - _found(before))) for before, after in pairs], seed=seed)
    if lost is None or gained is None:
        return None
    return SolutionTurnover(
        lost,
        gained,
        sum(_by_chance(before, after) for before, after in pairs) / len(pairs),
        sum(_by_chance(after, before) for before, after in pairs) / len(pairs),
    )


def _found(problem: ProblemResult) -> dict[str, int]:
    """Right samples of each solution."""
    return dict(zip(problem.mode_keys or (), problem.modes or (), strict=True))


def _by_chance(one: ProblemResult, other: ProblemResult) -> float:
    """Expected number of solutions of which all right samples of both fall to one."""
    mine, theirs = _found(one), _found(other)
    return sum(
        share_by_chance(mine.get(key, 0) + theirs.get(key, 0), one.num_scored, other.num_scored)
        for key in mine.keys() | theirs.keys()
    )
