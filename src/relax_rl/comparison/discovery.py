"""Discoveries in the rollouts of a run: when the first reward came, and which solutions were ever sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from relax_rl.runs import RunDirectory
from relax_rl.runs.files import read_rows

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


@dataclass(frozen=True)
class _Found:
    """The findings of one rollout batch: by problem, the modes of its completions with reward 1."""

    modes: Mapping[str, frozenset[str]]
    has_modes: bool


def discovery_of(rollouts: Iterable[tuple[int, Sequence[Mapping[str, Any]]]]) -> Discovery:
    """Discoveries in some rollouts.

    Args:
        rollouts: (update, rows) in order, the rows as `RunDirectory.write_completions` keeps them.
    """
    return _summed((update, _found(rows)) for update, rows in rollouts)


def discovered(run: RunDirectory) -> Discovery:
    """Discoveries in the rollouts of a run, one file of completions in memory at a time.

    Raises:
        RunError: a file of completions that cannot be read.
    """
    return _summed((step, _found_in(run.completions_path(step))) for step in run.completion_steps())


def _found_in(path: Path) -> _Found:
    facts = path.stat()
    return _found_in_version(path.absolute(), facts.st_size, facts.st_mtime_ns)


# A page that follows a run asks for all of its rollouts at every update, and only the last file is new.
@lru_cache(maxsize=4096)
def _found_in_version(path: Path, _size: int, _time: int) -> _Found:
    return _found(list(read_rows(path)))


def _found(rows: Sequence[Mapping[str, Any]]) -> _Found:
    modes: dict[str, set[str]] = {}
    for row in rows:
        found = modes.setdefault(str(row.get("problem_id") or row.get("prompt")), set())
        if row.get("reward") == 1:
            found.add(str(row.get("mode")))
    has_modes = any(row.get("mode") is not None for row in rows)
    return _Found({problem: frozenset(found) for problem, found in modes.items()}, has_modes)


def _summed(rollouts: Iterable[tuple[int, _Found]]) -> Discovery:
    first: int | None = None
    has_modes = False
    ever: dict[str, frozenset[str]] = {}
    now: dict[str, frozenset[str]] = {}
    for update, found in rollouts:
        has_modes |= found.has_modes
        if first is None and any(found.modes.values()):
            first = update
        now |= found.modes
        for problem, modes in found.modes.items():
            ever[problem] = ever.get(problem, frozenset()) | modes
    counts = [sum(map(len, kept.values())) for kept in (ever, now)]
    of_modes = (counts[0], counts[1]) if has_modes else (None, None)
    return Discovery(first, sum(map(bool, ever.values())), *of_modes)
