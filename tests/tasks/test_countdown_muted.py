"""Countdown that needs one sign: by enumeration, in countdown's own splits, with its verifier."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import CountdownVerifier
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.tasks.base import validate_task
from relax_rl.tasks.countdown import split_of
from relax_rl.tasks.countdown_muted import MutedCountdownTask
from relax_rl.tasks.registry import build_task
from relax_rl.tasks.solutions import countdown_solutions

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("operator", ["/", "-"])
def test_what_needs_the_sign_has_no_solution_without_it(operator: str) -> None:
    task = build_task("countdown_muted", operator=operator)
    for split, count in (("train", 24), ("test", 12), ("hard", 12)):
        problems = task.problems(split, count)
        assert validate_task(task, split, count).ok
        assert len({problem.answer for problem in problems}) == count
        for problem in problems:
            gold = CountdownAnswer.parse(problem.answer)
            assert gold is not None
            assert split_of(gold.numbers, gold.target) == ("train" if split == "train" else "test")
            found = countdown_solutions(gold.numbers, gold.target)[gold.target]
            needs = all(operator in text for text in found)
            assert problem.columns["needs_operator"] == needs
            assert needs or split != "hard"
    flags = [problem.columns["needs_operator"] for problem in task.problems("train", 64)]
    assert 20 < sum(flags) < 44
    assert task.problems("hard", 5) == task.problems("hard", 8)[:5]
    assert isinstance(task.verifier, CountdownVerifier)


def test_by_hand() -> None:
    task = MutedCountdownTask()
    assert task.needs_operator((9, 11, 4), 5)  # (9 + 11) / 4
    assert not task.needs_operator((2, 3, 4), 14)  # 2 + 3 * 4
    assert not task.needs_operator((1, 1), 50)  # nothing reaches it


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operator": "+"}, r"no operator '\+'; choose / or -: a solution with \+ or \* can be written without it"),
        ({"hard_share": 1.5}, r"hard_share of countdown_muted is 1\.5"),
        ({"num_numbers": 6}, "num_numbers of countdown_muted is 6; choose a whole number from 2 to 5"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task("countdown_muted", **options)
    task = MutedCountdownTask()
    with pytest.raises(DataError, match="no split 'dev'; choose one of train, test, hard"):
        task.problems("dev")
    with pytest.raises(DataError, match="asked for -1 problems"):
        task.problems("test", -1)
    with pytest.raises(DataError, match="found no new hard problem that needs /"):
        MutedCountdownTask(num_numbers=2, max_number=2).problems("hard", 10)


def test_the_traces_of_the_policy_have_the_sign_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from build_muted_policy import muted_attempt

    sys.modules.pop("build_muted_policy")
    rng = random.Random(0)
    for share, low, high in ((0.0, 0, 0), (0.1, 60, 140), (1.0, 1000, 1000)):
        drawn = [muted_attempt((12, 4, 2), rng, "/", share) for _ in range(1000)]
        assert low <= sum(attempt is not None and "/" in attempt.expression for attempt in drawn) <= high
