"""The door for reward functions that users hand to the trainer: what they return is read, and they are tried first."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from torch import Tensor, nn
from transformers import TrainerState

from relax_rl.errors import DataError
from relax_rl.rewards.functions import Rewards, is_asynchronous
from relax_rl.rewards.own_code import as_scores, awaited, called_within, is_own, place_of
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.rewards.trial import check_tried, stated_answer

__all__ = ["AsyncOwnReward", "OwnReward", "SilentRewards", "own_reward", "own_rewards", "paid_by", "try_rewards"]

_ROWS = 2
_ANSWERS = ("solution", "answer", "ground_truth")


class OwnReward:
    """A user's function in TRL's shape: arrays and tensors are taken, and its faults are one sentence with its place.

    Args:
        name: for messages and metrics; None: the function's own.
        timeout_s: seconds that a call may take; None: any time.

    Raises:
        DataError: when it is called, as `relax_rl.rewards.own_code.as_scores` and `.called_within`, or for NaN beside
            numbers.
    """

    def __init__(self, function: Any, name: str | None = None, timeout_s: float | None = None) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self.__name__ = name or getattr(function, "__name__", type(function).__name__)
        self.described = f"The reward function '{self.__name__}' ({place_of(function)})"

    def __call__(self, completions: Sequence[Any], **named: Any) -> list[float | None]:
        given = {"completions": completions, **named}
        return self._scores(called_within(self.described, self._timeout_s, self._function, **given), len(completions))

    def tried(self, loop: Any, **named: Any) -> list[float | None]:
        """The scores of a call outside training; `loop` runs the coroutines of asynchronous functions."""
        return self(**named)

    def _scores(self, values: Any, count: int) -> list[float | None]:
        scores = as_scores(values, count, self.described)
        if None in scores and any(score is not None for score in scores):
            # NaN in a column of numbers is a slip in the user's arithmetic; None is the word for "does not apply".
            wrong = [place for place, value in enumerate(values) if scores[place] is None and value is not None]
            if wrong:
                raise DataError(
                    f"{self.described} returned NaN for {len(wrong)} of {count} completions, the first of them number "
                    f"{wrong[0]}; return None where it does not apply."
                )
        return scores


class AsyncOwnReward(OwnReward):
    """The same for a coroutine function; TRL awaits those of several together."""

    async def __call__(self, completions: Sequence[Any], **named: Any) -> list[float | None]:  # type: ignore[override]
        given = {"completions": completions, **named}
        return self._scores(await awaited(self.described, self._timeout_s, self._function, **given), len(completions))

    def tried(self, loop: Any, **named: Any) -> list[float | None]:
        """See `OwnReward.tried`. In the loop of the training: what a function opens in a loop belongs to that loop."""
        call: Any = self(**named)
        return asyncio.run(call) if loop is None else asyncio.run_coroutine_threadsafe(call, loop).result()


def own_reward(function: Any, name: str | None = None, timeout_s: float | None = None) -> OwnReward:
    """A user's function, synchronous or not, behind the door."""
    kind = AsyncOwnReward if is_asynchronous(function) else OwnReward
    return kind(function, name, timeout_s)


def own_rewards(given: Any) -> Any:
    """Reward functions as TRL takes them, with a user's own behind the door.

    Names of models and models stay as they are: TRL calls them itself.
    """
    functions: list[Any] = given if isinstance(given, list) else [given]
    return [own_reward(function) if _is_own_function(function) else function for function in functions]


def paid_by(rewards: Rewards) -> tuple[list[Any], list[float] | None]:
    """The reward functions that TRL calls, and their weights; None where all weigh 1."""
    functions: list[Any] = [] if rewards.verifier is None else [VerifierReward(rewards.verifier)]
    if not rewards.functions:
        return functions, None
    weights = [1.0] * len(functions) + [float(function.weight) for function in rewards.functions]
    return [*functions, *(own_reward(own.function, own.name, own.timeout_s) for own in rewards.functions)], weights


def _is_own_function(found: Any) -> bool:
    if isinstance(found, str | nn.Module) or not callable(found):
        return False
    return inspect.isroutine(found) or is_own(type(found))


def try_rewards(functions: Sequence[Any], dataset: Any, loop: Any = None) -> None:
    """Call each user's function on two rows of the data, with completions that state the row's answer.

    Args:
        functions: from `own_rewards`.
        dataset: data set of TRL's form, with a column ``prompt``; nothing is tried on one that can only be iterated
            once.
        loop: loop of the training, which runs coroutines; None: a loop of its own.

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
        function: function.tried(
            loop,
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


class SilentRewards:
    """The functions of a user that gave no score to a whole rollout batch; each is named once.

    Args:
        functions: functions of the trainer, in the order of the columns of scores.
    """

    def __init__(self, functions: Sequence[Any]) -> None:
        self._described = {
            place: function.described for place, function in enumerate(functions) if isinstance(function, OwnReward)
        }

    def sentences(self, scores: Tensor, update: int) -> list[str]:
        """Remarks on the scores (B, F) of a rollout batch, NaN: none."""
        silent = [place for place in self._described if bool(scores[:, place].isnan().all())]
        return [
            f"{self._described.pop(place)} returned None for all {len(scores)} completions of the rollouts of update "
            f"{update + 1}: it does not count there."
            for place in silent
        ]


def _completion(row: Mapping[str, Any]) -> Any:
    gold = next((row[name] for name in _ANSWERS if isinstance(row.get(name), str)), "42")
    text = stated_answer(gold)
    return text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
