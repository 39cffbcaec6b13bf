"""Whether a run still learns: what has been true of every update for a while, and since when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["LearningWatch"]

Figures = Mapping[str, Any]


def _is(name: str, holds: Callable[[float], bool]) -> Callable[[Figures], bool | None]:
    """A condition on one figure; None where the row has none, as in the later updates of a rollout batch."""

    def condition(figures: Figures) -> bool | None:
        if name not in figures:
            return None
        value = figures[name]
        return holds(math.nan if value is None else float(value))

    return condition


_IDENTICAL = "rollouts/identical"

_CONDITIONS: dict[str, Callable[[Figures], bool | None]] = {
    "the gradient is 0, so nothing is learned": _is("grad_norm", lambda norm: norm == 0),
    "no completion could be scored": _is("reward", math.isnan),
    "the rewards of each group are all equal": _is("frac_reward_zero_std", lambda share: share == 1),
    "every completion is truncated at max_completion_length": _is(
        "completions/clipped_ratio", lambda share: share == 1
    ),
    "every completion is empty": _is("completions/max_length", lambda length: length <= 1),
    "all completions of a rollout batch are identical": _is(_IDENTICAL, bool),
}
"""In words, what is wrong. The one token of an empty completion is the end token."""


class LearningWatch:
    """Follows the figures of a run's log.

    Args:
        warn_after: updates after which a condition is told of; a shorter run is told of at its end.
        say: receives the sentences, one for each time that a condition begins to last.
    """

    def __init__(self, warn_after: int, say: Callable[[str], None]) -> None:
        self._warn_after = warn_after
        self._say = say
        self._since: dict[str, int] = {}
        self._announced: set[str] = set()
        self._is_identical: bool | None = None
        self._last = 0

    def rollout(self, completions: Sequence[Sequence[int]]) -> None:
        """A rollout batch of this process: the token ids of its completions."""
        is_identical = all(ids == completions[0] for ids in completions)
        self._is_identical = is_identical and self._is_identical is not False

    def begin(self, step: int, history: Sequence[Figures]) -> None:
        """A run begins or is resumed after update `step`: take up its log, of which nothing is told again."""
        self._last = 0
        for row in history:
            if "grad_norm" in row:
                self._take(int(row["step"]), row)
        self._announced = {condition for condition in self._since if self._lasted(condition) >= self._warn_after}
        self._last = step

    def update(self, step: int, num_steps: int, figures: Figures) -> None:
        """The log of the updates since the last one, up to `step` of `num_steps`."""
        seen = {} if self._is_identical is None else {_IDENTICAL: float(self._is_identical)}
        self._is_identical = None
        self._take(step, {**figures, **seen})
        due = min(self._warn_after, num_steps)
        new = [
            condition
            for condition in self._since
            if condition not in self._announced and self._lasted(condition) >= due
        ]
        if new:
            self._announced.update(new)
            self._say(self._sentence(new))

    def _take(self, step: int, figures: Figures) -> None:
        for words, condition in _CONDITIONS.items():
            holds = condition(figures)
            if holds is None:
                continue
            if holds:
                self._since.setdefault(words, self._last + 1)
            else:
                self._since.pop(words, None)
                self._announced.discard(words)
        self._last = step

    def _lasted(self, condition: str) -> int:
        return self._last - self._since[condition] + 1

    def _sentence(self, conditions: Sequence[str]) -> str:
        parts: dict[int, list[str]] = {}
        for condition in conditions:
            parts.setdefault(self._since[condition], []).append(condition)
        since = "; ".join(f"since update {first} {', '.join(words)}" for first, words in sorted(parts.items()))
        return f"{since[0].upper()}{since[1:]} (up to update {self._last}); look at the completions and their rewards."
