"""Discoveries in the rollouts of a run: when the first reward came, and which solutions were ever sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.runs import RunDirectory

__all__ = ["Discovery", "discovered", "discovery_of"]


@dataclass(frozen=True)
class Discovery:
    """Discoveries of a run's rollouts, as far as they were kept.

    Attributes:
        first_reward: update whose rollout had the first completion with reward 1; None where none had.
        problems: with such a completion, over the whole run.
        ever: solutions (`relax_rl.rewards.Verdict.mode`) found for the problems, over the whole run; None where nothing
            tells them.
        now: the ones of these that the last rollout of their problem still has.
    """

    first_reward: int | None
    problems: int
    ever: int | None
    now: int | None


def discovery_of(rollouts: Iterable[tuple[int, Sequence[Mapping[str, Any]]]]) -> Discovery:
    """Discoveries in some rollouts.

    Args:
        rollouts: (update, rows) in order, the rows as `RunDirectory.write_completions` keeps them.
    """
    first: int | None = None
    has_modes = False
    ever: dict[Any, set[str]] = {}
    now: dict[Any, set[str]] = {}
    for update, rows in rollouts:
        latest: dict[Any, set[str]] = {}
        for row in rows:
            has_modes |= row.get("mode") is not None
            found = latest.setdefault(_problem(row), set())
            if row.get("reward") == 1:
                first = update if first is None else first
                found.add(str(row.get("mode")))
        now |= latest
        for problem, modes in latest.items():
            ever.setdefault(problem, set()).update(modes)
    counts = [sum(len(modes) for modes in kept.values()) for kept in (ever, now)]
    of_modes = (counts[0], counts[1]) if has_modes else (None, None)
    return Discovery(first, sum(bool(modes) for modes in ever.values()), *of_modes)


def discovered(run: RunDirectory) -> Discovery:
    """Discoveries in the rollouts of a run, one file of completions in memory at a time.

    Raises:
        RunError: a file of completions that cannot be read.
    """
    return discovery_of((step, run.read_completions(step)) for step in run.completion_steps())


def _problem(row: Mapping[str, Any]) -> str:
    return str(row.get("problem_id") or row.get("prompt"))
