"""The door for reward functions that users hand to the trainer: what they return is read, and they are tried first."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from torch import nn
from transformers import TrainerState

from relax_rl.rewards.own_code import as_scores, called, is_own, place_of
from relax_rl.rewards.trial import check_tried, stated_answer

__all__ = ["OwnReward", "own_rewards", "try_rewards"]

_ROWS = 2
_ANSWERS = ("solution", "answer", "ground_truth")


class OwnReward:
    """A user's function in TRL's shape: arrays and tensors are taken, and its faults are one sentence with its place.

    Raises:
        DataError: when it is called, as `relax_rl.rewards.own_code.as_scores` and `.called`.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.described = f"The reward function '{self.__name__}' ({place_of(function)})"

    def __call__(self, completions: Sequence[Any], **named: Any) -> list[float | None]:
        scores = called(self.described, self._function, completions=completions, **named)
        return as_scores(scores, len(completions), self.described)


def own_rewards(given: Any) -> Any:
    """Reward functions as TRL takes them, with a user's synchronous ones behind the door.

    Names of models, models and coroutines stay as they are: TRL calls them itself.
    """
    functions: list[Any] = given if isinstance(given, list) else [given]
    return [OwnReward(function) if _is_own_function(function) else function for function in functions]


def _is_own_function(found: Any) -> bool:
    if isinstance(found, str | nn.Module) or not callable(found):
        return False
    call = found if inspect.isroutine(found) else type(found).__call__
    return not asyncio.iscoroutinefunction(call) and (inspect.isroutine(found) or is_own(type(found)))


def try_rewards(functions: Sequence[Any], dataset: Any) -> None:
    """Call each user's function on two rows of the data, with completions that state the row's answer.

    Args:
        functions: from `own_rewards`.
        dataset: of TRL's form, with a column ``prompt``; nothing is tried on one that can only be iterated once.

    Raises:
        DataError: one raises, or returns something else than a finite number or None for each; or all of them return
            None for both rows.
    """
    own = [function for function in functions if isinstance(function, OwnReward)]
    if not own or not isinstance(dataset, Sized):
        return
    table: Any = dataset
    rows: list[Mapping[str, Any]] = list(itertools.islice((table[index] for index in range(len(table))), _ROWS))
    if not rows:
        return
    completions = [_completion(row) for row in rows]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in {"prompt", "completion"}}
    scores = {
        function: function(
            prompts=[row["prompt"] for row in rows],
            completions=completions,
            completion_ids=[[0] * 9 for _ in rows],
            **{"truncated": [False] * len(rows)} | columns,
            trainer_state=TrainerState(),
            log_extra=lambda *_: None,
            log_metric=lambda *_: None,
        )
        for function in own
    }
    for function, found in scores.items():
        # Among several, a function that has nothing to say of a row returns None; alone it must score.
        is_alone = len(functions) == 1
        check_tried(found if is_alone else [*found, 0.0], function.described)


def _completion(row: Mapping[str, Any]) -> Any:
    gold = next((row[name] for name in _ANSWERS if isinstance(row.get(name), str)), "42")
    text = stated_answer(gold)
    return text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
