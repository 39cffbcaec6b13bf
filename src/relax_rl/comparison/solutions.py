"""How many solutions of a problem a policy lost against another one, how many it gained, and how many it can recover.

A solution is found by an evaluation if a right sample has its mode (`relax_rl.rewards.Verdict.mode`). It is recovered
in k samples with the probability R_k = 1 - (1 - p)^k, p the policy's probability of its mode. As with problems
(`.turnover`), luck takes part, so each number stands beside the number that chance alone would give.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb

from relax_rl.comparison.pairs import require_comparable
from relax_rl.comparison.turnover import scored_pairs, share_by_chance
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["Recovery", "SolutionTurnover", "modes_of", "recovered", "solution_turnover"]


_Pairs = Sequence[tuple[ProblemResult, ProblemResult]]


@dataclass(frozen=True)
class Recovery:
    """Solutions that the first evaluation found and k samples of the second find, a problem.

    Attributes:
        k: samples drawn.
        found: expected number, unbiased given the solutions of the first, with its 95 % interval by bootstrap over
            problems.
        by_chance: expected number if the policies are alike, given the right samples of both.
    """

    k: int
    found: Estimate
    by_chance: float


@dataclass(frozen=True)
class SolutionTurnover:
    """Solutions lost and gained, as means over the problems that both evaluations scored a sample of.

    Attributes:
        lost: solutions of a problem that the first found and the second did not, with its 95 % interval by bootstrap
            over problems.
        gained: solutions that the second found and the first did not.
        lost_by_chance, gained_by_chance: expected numbers if the policies are alike, given the right samples of both.
        known: solutions of a problem that the first found, mean over the problems.
        recovery: for powers of two up to the scored samples of every problem in the second.
    """

    lost: Estimate
    gained: Estimate
    lost_by_chance: float
    gained_by_chance: float
    known: float
    recovery: tuple[Recovery, ...]


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
    lost, gained = (
        bootstrap_mean([float(len(modes_of(one).keys() - modes_of(other))) for one, other in ordered], seed=seed)
        for ordered in (pairs, [(after, before) for before, after in pairs])
    )
    if lost is None or gained is None:
        return None
    return SolutionTurnover(
        lost,
        gained,
        sum(_by_chance(before, after) for before, after in pairs) / len(pairs),
        sum(_by_chance(after, before) for before, after in pairs) / len(pairs),
        sum(len(modes_of(before)) for before, _ in pairs) / len(pairs),
        _recovery(pairs, seed),
    )


def recovered(before: ProblemResult, after: ProblemResult, k: int) -> float:
    """Expected number of the first result's solutions that k samples of the second find.

    The sum of ``1 - C(n - c, k) / C(n, k)`` over these solutions, each with c right samples of n in the second: R_k
    without bias.

    Raises:
        DataError: more than n samples.
    """
    found = modes_of(after)
    return sum(pass_at_k(after.num_scored, found.get(mode, 0), k) for mode in modes_of(before))


def _recovery(pairs: _Pairs, seed: int) -> tuple[Recovery, ...]:
    most = min(after.num_scored for _, after in pairs)
    found: list[Recovery] = []
    for k in (2**power for power in range(most.bit_length())):
        estimate = bootstrap_mean([recovered(before, after, k) for before, after in pairs], seed=seed)
        if estimate is not None:
            by_chance = sum(_recovered_by_chance(before, after, k) for before, after in pairs) / len(pairs)
            found.append(Recovery(k, estimate, by_chance))
    return tuple(found)


def _recovered_by_chance(before: ProblemResult, after: ProblemResult, k: int) -> float:
    """Expectation of `recovered` if each right sample of a mode is as likely to be any sample of either result."""
    mine, theirs = modes_of(before), modes_of(after)
    first, second = before.num_scored, after.num_scored
    expected = 0.0
    for mode in mine.keys() | theirs.keys():
        right = mine.get(mode, 0) + theirs.get(mode, 0)
        for own in range(1, right + 1):  # without one of its own, the first does not know the mode
            if own <= first and right - own <= second:
                share = comb(first, own) * comb(second, right - own) / comb(first + second, right)
                expected += share * pass_at_k(second, right - own, k)
    return expected


def modes_of(problem: ProblemResult) -> dict[str, int]:
    """Right samples of each solution; empty where none is known."""
    return dict(zip(problem.mode_keys or (), problem.modes or (), strict=True))


def _by_chance(one: ProblemResult, other: ProblemResult) -> float:
    """Expected number of solutions of which all right samples of both fall to one."""
    mine, theirs = modes_of(one), modes_of(other)
    return sum(
        share_by_chance(mine.get(key, 0) + theirs.get(key, 0), one.num_scored, other.num_scored)
        for key in mine.keys() | theirs.keys()
    )
