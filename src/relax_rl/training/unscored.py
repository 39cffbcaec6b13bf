"""A run whose completions mostly have no score stops: it would learn from the few that the grader happens to read."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from relax_rl.errors import DataError

__all__ = ["UnscoredLimit"]

_NUM_BATCHES = 3
"""Rollout batches that are looked at together; one may be unlucky in its problems."""


class UnscoredLimit:
    """The share of completions without a score in the last rollout batches.

    Args:
        max_share: share that may be without one; `GuardConfig.max_unscored`.
    """

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._last: deque[tuple[int, int]] = deque(maxlen=_NUM_BATCHES)

    def count(self, scores: Tensor, update: int) -> float:
        """The share in one rollout batch. Call it with the same scores on every rank.

        Args:
            scores: (B, F) of all ranks, one column a reward function, NaN: not scored.
            update: the number of updates so far.

        Raises:
            DataError: above the limit in the last three batches together.
        """
        without = int(scores.isnan().all(dim=1).sum())
        self._last.append((without, len(scores)))
        unscored, total = (sum(part) for part in zip(*self._last, strict=True))
        if len(self._last) == _NUM_BATCHES and unscored > self._max_share * total:
            raise DataError(
                f"The run stops in the rollouts of update {update + 1}: {unscored} of the {total} completions of the "
                f"last {_NUM_BATCHES} rollout batches have no score, above guard.max_unscored = {self._max_share:g}. "
                "Their gold answers cannot be read, or the grader fails: see 'grading/reasons/...' in "
                "metrics.jsonl; 'relax tasks validate' lists such problems."
            )
        return without / len(scores)
