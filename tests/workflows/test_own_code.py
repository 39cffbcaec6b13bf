"""A user's verifier or task is called before anything is written, and its fault is one sentence with file and line."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import DataError
from relax_rl.rewards import CallableVerifier, own_code
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.tasks import CountdownTask, Problem
from relax_rl.tasks.base import BaseTask, as_task
from relax_rl.training.trl.reward_functions import OwnReward, own_rewards, try_rewards
from relax_rl.workflows.train import prepare
from support.comparisons import SMALL

MODULE = """
import math
import numpy
from relax_rl.tasks import CountdownTask, Problem

def raises(completions, answers):
    total = 0
    return [1 / total for _ in completions]

def all_nan(completions, answers): return [math.nan] * len(completions)

def all_none(completions, answers): return [None] * len(completions)

def short(completions, answers): return [1.0]

def words(completions, answers): return ["yes"] * len(completions)

def too_large(completions, answers): return [10 ** 400] * len(completions)

def infinite(completions, answers): return [math.inf] * len(completions)

def generated(completions, answers): return (1.0 for _ in completions)

def single(completions, answers): return 1.0

class Broken:
    name = "broken"
    verifier = CountdownTask().verifier
    def problems(self, split, count=None, seed=0):
        return [row["question"] for row in [{}]]

class Numbers:
    name = "numbers"
    verifier = CountdownTask().verifier
    def problems(self, split, count=None, seed=0):
        return [Problem(f"{split}/{n}", "?", n) for n in range(count or 64)]

class Grader:
    name = "grader"
    def score(self, completions, answers): return [completions[5]] * 2

class Graded:
    name = "graded"
    verifier = Grader()
    def problems(self, split, count=None, seed=0):
        return CountdownTask().problems(split, count, seed)

class Unmade(Graded):
    def __init__(self):
        raise KeyError("DATA")
"""

FAULTS = {
    "raises": r"The verifier 'own_NN:raises' \(own_NN.py:6\) raised ZeroDivisionError: division by zero in line 8",
    "all_nan": r"\(own_NN.py:10\) scored none of 18 completions .* None or NaN for all of them",
    "all_none": r"\(own_NN.py:12\) scored none of 18 completions",
    "short": r"\(own_NN.py:14\) returned 1 values for 2 completions; return one for each",
    "words": r"\(own_NN.py:16\) returned 'yes', which is neither a number nor None",
    "too_large": r"\(own_NN.py:18\) returned an integer that no float can hold",
    "infinite": r"\(own_NN.py:20\) returned an infinite score",
    "generated": r"\(own_NN.py:22\) returned a generator for 2 completions; return a list of numbers",
    "single": r"\(own_NN.py:24\) returned a float for 2 completions",
    "Broken": r"The task 'broken' \(own_NN.py:26\) raised KeyError: 'question' in line 30 of own_NN.py",
    "Numbers": r"The task 'numbers' \(own_NN.py:32\) returned problem 0 with answer = 0; it must be text",
    "Graded": r"The verifier 'grader' \(own_NN.py:38\) raised IndexError: list index out of range in line 40",
    "Unmade": r"The task 'own_NN:Unmade' \(own_NN.py:48\) raised KeyError: 'DATA' in line 50 of own_NN.py",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of this test alone, in the current folder."""
    name = f"own_{abs(hash(request.node.name))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.mark.parametrize("fault", FAULTS)
def test_the_rehearsal_and_the_run_refuse_it_before_anything_is_written(
    own: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "--task" if fault[0].isupper() else "--verifier"
    before = sorted(tmp_path.rglob("*"))
    for words in (["--dry-run"], []):
        assert main(["train", "countdown", *SMALL, option, f"{own}:{fault}", "-o", "run", *words]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert told.err.startswith("relax: error: The ")
        assert re.search(FAULTS[fault].replace("NN", own.removeprefix("own_")), told.err), told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_eval_calls_the_tasks_verifier_before_it_samples(
    own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relax_rl.workflows.source.load_quietly", None)
    assert main(["eval", "tiny", "--task", f"{own}:Graded", "-k", "2", "--num-problems", "2", "-o", "out"]) == 2
    assert "The verifier 'grader'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "natural",
    [
        lambda count: [1.0] * count,
        lambda count: tuple([True] * count),
        lambda count: np.ones(count, dtype=np.float32),
        lambda count: [np.float64(1), *[np.int64(1)] * (count - 1)],
        lambda count: torch.ones(count, dtype=torch.bfloat16),
        lambda count: [torch.tensor(1.0, requires_grad=True)] * count,
    ],
)
def test_natural_return_types_are_taken(natural: Any) -> None:
    verifier = CallableVerifier(lambda completions, answers: natural(len(completions)))
    assert verifier.score(["a", "b", "c"], ["x"] * 3) == [1.0] * 3
    (reward,) = own_rewards(lambda completions, **_: natural(len(completions)))
    assert reward(completions=["a", "b"], prompts=["p"] * 2) == [1.0] * 2


def test_nan_is_no_score_and_never_0() -> None:
    verifier = CallableVerifier(lambda completions, answers: np.array([1.0, np.nan]))
    assert verifier.score(["a", "b"], ["x"] * 2) == [1.0, None]


DATA = [{"prompt": "1 + 1?", "answer": "2"}, {"prompt": "1 + 2?", "answer": "3"}]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda completions, answer, **_: [answer[9]], r"'<lambda>' \(.*test_own_code.py:\d+\) raised IndexError"),
        (lambda completions, **_: [1.0], "returned 1 values for 2 completions"),
        (lambda completions, **_: [None, float("nan")], "scored none of 2 completions"),
        (lambda completions, **_: [float("inf"), 1.0], "infinite"),
        (lambda completions: [1.0, 1.0], "unexpected keyword argument"),
    ],
)
def test_a_reward_function_of_a_trl_script_is_tried_on_two_rows(function: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        try_rewards(own_rewards([function]), DATA)


def test_what_has_something_to_say_passes_with_the_columns_of_the_data() -> None:
    seen: list[Any] = []

    def sound(prompts: Any, completions: Any, completion_ids: Any, answer: Any, trainer_state: Any, **_: Any) -> Any:
        seen.append((prompts, completions, answer, trainer_state.global_step))
        return [None, 1.0]

    def silent(completions: Any, **_: Any) -> Any:
        return [None] * len(completions)

    async def later(completions: Any, **_: Any) -> Any:
        return [1.0] * len(completions)

    given = [sound, silent, later, VerifierReward(CountdownTask().verifier), "a/model"]
    kept = own_rewards(given)
    assert [type(function) is OwnReward for function in kept] == [True, True, False, False, False]
    assert [function.__name__ for function in kept[:2]] == ["sound", "silent"]
    try_rewards(kept, DATA)
    assert [row[0] for row in seen] == [["1 + 1?", "1 + 2?"]]
    assert "\\boxed{2}" in seen[0][1][0]
    try_rewards([], DATA)
    try_rewards(kept, iter(DATA))


def test_a_long_call_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(own_code, "FIRST_SIGN_S", 0.001)
    signs_to_see = 3

    def slow(completions: Any, answers: Any) -> list[float]:
        until = time.monotonic() + 60
        while len(caplog.records) < signs_to_see and time.monotonic() < until:
            time.sleep(0.001)
        return [1.0]

    with caplog.at_level(logging.WARNING, "relax_rl.own_code"):
        assert CallableVerifier(slow).score(["a"], ["b"]) == [1.0]
        signs = [record.getMessage() for record in caplog.records]
        time.sleep(0.05)
        assert len(caplog.records) == len(signs), "a sign came after the call had returned"
    assert len(signs) >= signs_to_see
    assert "The verifier 'slow' (" in signs[0]
    assert "goes on; Ctrl-C stops it" in signs[0]
    caplog.clear()
    signs_to_see = 0
    monkeypatch.setattr(own_code, "FIRST_SIGN_S", 30.0)
    assert CallableVerifier(slow).score(["a"], ["b"]) == [1.0]
    assert caplog.records == []


def test_an_object_is_tried_as_what_is_named_is() -> None:
    class Countless(BaseTask):
        name = "countless"
        verifier = CountdownTask().verifier

        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            raise FileNotFoundError("rows.csv")

    with pytest.raises(
        DataError, match=r"The task 'countless' \(.*\) raised FileNotFoundError: rows.csv in line \d+ of"
    ):
        prepare("countdown", task=Countless())
    assert as_task(CountdownTask()).problems("test", 1)
    with pytest.raises(DataError, match="scored none"):
        prepare("countdown", verifier=lambda completions, answers: [None] * len(completions))
