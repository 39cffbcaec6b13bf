"""Reward functions that users write: what stands behind the door, and their trial on two rows."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from torch import nn

from relax_rl.errors import DataError
from relax_rl.rewards import CountdownVerifier
from relax_rl.rewards.functions import RewardFunction, Rewards
from relax_rl.training.trl.reward_functions import OwnReward, own_rewards, paid_by, try_rewards


def score(completions: list[Any], **_: Any) -> Any:
    return np.array([float(len(completion)) for completion in completions])


async def later(completions: list[Any], **_: Any) -> list[float]:
    return [0.0 for _ in completions]


class Silent:
    def __call__(self, completions: list[Any], **_: Any) -> list[float | None]:
        return [None for _ in completions]


def test_a_users_functions_stand_behind_the_door_and_nothing_else_does() -> None:
    model, own = nn.Linear(1, 1), Silent()
    found = own_rewards([score, later, own, "name", model])
    assert [isinstance(each, OwnReward) for each in found] == [True, True, True, False, False]
    assert [each.__name__ for each in found[:3]] == ["score", "later", "Silent"]
    assert found[3:] == ["name", model]
    (alone,) = own_rewards(score)
    assert alone(completions=["ab", "c"], prompts=[]) == [2.0, 1.0]
    (awaited,) = own_rewards(later)
    assert asyncio.run(awaited(completions=["a"])) == [0.0]


def test_a_run_is_paid_by_its_verifier_and_by_functions_with_their_weights_and_limits() -> None:
    verifier = CountdownVerifier()
    assert paid_by(Rewards(verifier))[1] is None
    ours = RewardFunction(score, "length", 0.25), RewardFunction(later, "later", -2.0, timeout_s=3.0)
    (first, second, third), weights = paid_by(Rewards(verifier, ours))
    assert (first.__name__, second.__name__, third.__name__) == ("countdown", "length", "later")
    assert weights == [1.0, 0.25, -2.0]
    assert second(completions=["ab", "c"], prompts=[]) == [2.0, 1.0]
    assert (second._timeout_s, third._timeout_s) == (None, 3.0)
    (alone,), weights = paid_by(Rewards(None, ours[:1]))
    assert (alone.__name__, weights) == ("length", [0.25])


def test_a_users_functions_are_tried_on_two_rows_with_their_columns() -> None:
    seen: list[Any] = []

    def watching(completions: list[Any], **named: Any) -> list[float]:
        seen.append((completions, named))
        return [1.0] * len(completions)

    rows = [{"prompt": f"p{i}", "completion": "x", "answer": str(i), "truncated": True} for i in range(4)]
    try_rewards(own_rewards([watching]), rows)
    ((completions, named),) = seen
    assert completions[1] == "The answer is \\boxed{1}.\n<answer>1</answer>"
    assert (named["prompts"], named["answer"], named["truncated"]) == (["p0", "p1"], ["0", "1"], [True, True])
    assert [len(ids) for ids in named["completion_ids"]] == [9, 9]
    assert "completion" not in named
    assert named["trainer_state"].global_step == 0
    assert named["log_extra"]("name", []) is None
    assert named["log_metric"]("name", 1.0) is None
    seen.clear()
    try_rewards(own_rewards([watching]), [{"prompt": [{"role": "user", "content": "q"}], "solution": None}])
    assert seen[0][0][0] == [{"role": "assistant", "content": "The answer is \\boxed{42}.\n<answer>42</answer>"}]
    assert seen[0][1]["truncated"] == [False]
    seen.clear()
    try_rewards(own_rewards([watching]), [])
    try_rewards(own_rewards([watching]), iter(rows))
    try_rewards(["name"], rows)
    assert seen == []


def test_one_function_must_score_and_one_of_several_may_be_silent() -> None:
    rows = [{"prompt": "p"}] * 2
    with pytest.raises(DataError, match="scored none of 2 completions"):
        try_rewards(own_rewards([Silent()]), rows)
    try_rewards(own_rewards([Silent(), score]), rows)
    with pytest.raises(DataError, match="infinite score"):
        try_rewards(own_rewards([Silent(), lambda completions, **_: [math.inf] * len(completions)]), rows)
