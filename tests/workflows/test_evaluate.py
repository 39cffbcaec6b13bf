"""`evaluate` and `rescore` as functions: what the command does, nothing printed, nothing on disk unless asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.tasks import CountdownTask
from relax_rl.workflows.evaluate import evaluate, load_result, rescore
from relax_rl.workflows.progress import Progress

SMALL: dict[str, Any] = {"num_samples": 2, "num_problems": 2, "max_completion_length": 20}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_does_what_the_command_does(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    by_function = evaluate("tiny", "countdown", **SMALL, on_progress=seen.append)
    assert capfd.readouterr() == ("", "")
    assert list(Path().iterdir()) == []
    assert [(step.stage, step.done, step.total) for step in seen] == [("sampling", 4, 4)]
    words = ["-k", "2", "-n", "2", "--max-completion-length", "20", "-o", "out"]
    assert main(["eval", "tiny", "--task", "countdown", *words]) == 0
    assert load_result("out") == by_function
    kept = evaluate("tiny", "countdown", **SMALL, output="kept")
    assert Path("kept/samples.jsonl").read_bytes() == Path("out/samples.jsonl").read_bytes()
    assert kept == by_function


def test_a_loaded_model_and_a_task_object() -> None:
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    found = evaluate(model, CountdownTask(), tokenizer=tokenizer, **SMALL)
    assert found.model == ""
    assert dataclasses.replace(found, model="tiny") == evaluate("tiny", "countdown", **SMALL)


class Duck:
    """A user's task that subclasses nothing."""

    name = "duck"
    is_endless = True

    def __init__(self) -> None:
        self._own = CountdownTask()
        self.verifier = self._own.verifier

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> Any:
        self.asked = count
        return self._own.problems(split, min(count or 2, 2), seed)


def test_a_task_of_ones_own_needs_no_base_class() -> None:
    task = Duck()
    found = evaluate("tiny", task, num_samples=1, temperature=0.0)
    assert (found.task, task.asked, found.max_completion_length) == ("duck", 128, 256)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": None}, "name the task"),
        ({"tokenizer": object()}, "leave tokenizer out"),
        ({"backend": "abacus"}, "choose among transformers, vllm, server"),
        ({"num_problems": 0}, "num_problems = 0 must be at least 1"),
        ({"max_completion_length": 0}, "max_completion_length = 0 must be at least 1"),
        ({"task": CountdownTask(), "task_options": {"level": 1}}, "for a task given by name"),
        ({"dictionary": "nowhere.safetensors"}, "no dictionary file at nowhere.safetensors"),
        ({"model": object()}, "needs its tokenizer"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relax_rl.training.models.load_model", None)
    given: dict[str, Any] = {"model": "tiny", "task": "countdown"} | SMALL | options
    with pytest.raises((ConfigError, DataError), match=said):
        evaluate(given.pop("model"), given.pop("task"), **given)


def test_an_evaluation_that_cannot_be_compared_is_refused_before_anything_is_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = evaluate("tiny", "countdown", **SMALL)
    unlike = dataclasses.replace(first, grader="another", prompt_digest="another", backend="vllm")
    with monkeypatch.context() as patch:
        patch.setattr("relax_rl.evaluation.samplers.transformers.sample_blocks", None)
        with pytest.raises(DataError, match=r"prompts is another .* grader is another .* backend is vllm"):
            evaluate("tiny", "countdown", **SMALL, against=unlike, output="out")
        assert not Path("out").exists()
        with pytest.raises(DataError, match=r"temperature is 1.0 in the first and 0.5 in the second; .*--despite temp"):
            evaluate("tiny", "countdown", **SMALL, against=first, temperature=0.5)
    assert evaluate("tiny", "countdown", **SMALL, against=first, seed=1, output="out").seed == 1
    # What is kept is compared as it was graded, not as it would be graded now.
    data = json.loads(Path("out/result.json").read_text())
    Path("out/result.json").write_text(json.dumps(data | {"grader": "older"}))
    with pytest.raises(DataError, match=r"and older in the second; grade the older one again"):
        evaluate("tiny", "countdown", **SMALL, against=first, seed=1, output="out")
    assert rescore("out").num_changed == 0
    assert evaluate("tiny", "countdown", **SMALL, against=first, seed=1, output="out").grader == first.grader


def test_the_command_says_what_differs_and_compares_despite_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "tiny", "--task", "countdown", "-k", "2", "-n", "2", "--max-completion-length", "20"]
    assert main([*words, "-o", "first"]) == 0
    capsys.readouterr()
    cold = [*words, "--temperature", "0.5", "-o", "second", "--against", "first"]
    assert main(cold) == 2
    shown = capsys.readouterr()
    assert "temperature is 1.0 in the first and 0.5 in the second" in shown.err
    assert shown.out == ""
    assert not Path("second").exists()
    assert main([*cold, "--despite", "temperature"]) == 0
    shown = capsys.readouterr()
    assert "note: temperature is 1.0 there and 0.5 here" in shown.err
    assert "not of the models alone: temperature is 1.0 there and 0.5 here" in " ".join(shown.out.split())
    assert main([*cold, "--despite", "task"]) == 2
    assert "'task' cannot differ in a comparison" in capsys.readouterr().err
    assert main([*words, "--despite", "temperature"]) == 2
    assert "--against DIR" in capsys.readouterr().err
    data = json.loads(Path("first/result.json").read_text())
    Path("first/result.json").write_text(json.dumps(data | {"grader": ""}))
    assert main([*words, "--seed", "1", "-o", "third", "--against", "first"]) == 0
    assert "note: grader is unknown there and countdown, relax-rl" in capsys.readouterr().err
