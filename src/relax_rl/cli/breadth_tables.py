"""Breadth on the screen: problems and solutions lost and gained, and what the rollouts of a run discovered."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.table import Table

from relax_rl.comparison.discovery import discovered
from relax_rl.comparison.solutions import Recovery, solution_turnover
from relax_rl.comparison.turnover import turnover
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.runs import RunDirectory

__all__ = ["print_changes", "print_discovery"]

_MOST_NAMED = 10


def print_changes(first: EvaluationResult, second: EvaluationResult, despite: Collection[str] = ()) -> None:
    """Problems lost and gained by name; below them solutions, where both evaluations tell them apart.

    Args:
        despite: settings that may differ, as for `compare_results`.
    """
    found = turnover(first, second, despite=despite)
    if found is None:
        return
    for word, share, by_chance, problems in (
        ("lost", found.lost, found.lost_by_chance, found.lost_problems),
        ("gained", found.gained, found.gained_by_chance, found.gained_problems),
    ):
        print(
            f"problems {word}: {len(problems)} of {share.num_problems}, {share.value:.4g} [{share.low:.4g}, "
            f"{share.high:.4g}]; {by_chance:.4g} would be {word} by chance"
        )
        for problem in problems[:_MOST_NAMED]:
            print(f"  {problem.id}: {problem.before} right, then {problem.after}; by chance {problem.by_chance:.2g}")
        if len(problems) > _MOST_NAMED:
            print(f"  and {len(problems) - _MOST_NAMED} more")
    _print_solutions(first, second, despite)


def print_discovery(run: RunDirectory) -> None:
    """The discoveries of a run's rollouts; nothing for a run that kept no completions."""
    if not run.completion_steps():
        return
    found = discovered(run)
    table = Table(title="discovered in its rollouts")
    table.add_column("metric")
    table.add_column("value", justify="right")
    first = "none" if found.first_reward is None else str(found.first_reward)
    rows = {"first_reward": first, "problems_rewarded": found.problems}
    if found.ever is not None:
        rows |= {"solutions_ever": found.ever, "solutions_now": found.now}
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table)


def _print_solutions(first: EvaluationResult, second: EvaluationResult, despite: Collection[str]) -> None:
    found = solution_turnover(first, second, despite=despite)
    if found is None:
        return
    for word, number, by_chance in (
        ("lost", found.lost, found.lost_by_chance),
        ("gained", found.gained, found.gained_by_chance),
    ):
        print(
            f"solutions {word} per problem: {number.value:.4g} [{number.low:.4g}, {number.high:.4g}]; {by_chance:.4g} "
            f"would be {word} by chance"
        )
    print(f"solutions recovered per problem, of {found.known:.4g} that the first found:")
    for recovery in found.recovery:
        print(f"  {_words(recovery)}")


def _words(recovery: Recovery) -> str:
    number = recovery.found
    return (
        f"in {recovery.k} sample{'s' * (recovery.k > 1)}: {number.value:.4g} [{number.low:.4g}, {number.high:.4g}]; "
        f"{recovery.by_chance:.4g} by chance"
    )
