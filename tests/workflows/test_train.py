"""`train` for programs: names or objects in, a result out, and not a word on the screen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relax_rl.config import load_config
from relax_rl.errors import ConfigError, RunError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.objectives import build_objective
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.runs import RunDirectory
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import measurement
from relax_rl.training.models import load_model
from relax_rl.workflows.progress import Progress
from relax_rl.workflows.train import prepare, train

SMALL = {
    "trainer.max_steps": 2,
    "trainer.save_steps": 1,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 24,
    "evaluation.num_problems": 4,
    "evaluation.num_samples": 2,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measurement, "_NUM_PROMPTS", 4)
    monkeypatch.setattr(measurement, "_NUM_SAMPLES", 4)


def graded(completions: list[str], answers: list[str]) -> Sequence[float | None]:
    return CountdownVerifier().score(completions, answers)


@pytest.mark.slow
def test_objects_train_as_their_names_do() -> None:
    seen: list[Progress] = []
    named = train("countdown", overrides=SMALL | {"objective": "grpo", "output": "named"}, on_progress=seen.append)
    model, tokenizer = load_model("tiny")
    given = train(
        load_config("countdown", SMALL | {"output": "given"}),
        model=model,
        tokenizer=tokenizer,
        task=CountdownTask.of_level(**load_config("countdown").task.options),
        verifier=graded,
        objective=build_objective("grpo"),
    )
    own = {"step_time", "rewards/countdown/mean", "rewards/countdown/std", "rewards/graded/mean", "rewards/graded/std"}
    rows = [
        [
            {key: value for key, value in row.items() if key not in own and not key.startswith("time/")}
            for row in RunDirectory(run.output).read_metrics()
        ]
        for run in (named, given)
    ]
    assert rows[0] == rows[1]
    assert named.before is not None
    assert given.before is not None
    assert given.before.metrics == named.before.metrics
    assert named.after == EvaluationResult.load(Path("named/evaluations/after.json"))
    assert (named.output, named.num_updates, named.metrics["step"]) == (Path("named"), 2, 2)
    assert [(event.stage, event.done) for event in seen] == [
        ("before", 0),
        ("training", 0),
        ("training", 1),
        ("training", 2),
        ("after", 2),
    ]
    assert seen[3].metrics["reward"] == named.metrics["reward"]
    recorded = RunDirectory.open("given").read_config()
    assert (recorded.objective.name, recorded.task.name, recorded.verifier) == ("grpo", "countdown", "graded")


@pytest.mark.slow
def test_a_run_is_prolonged_and_resumed_from_a_link(tmp_path: Path) -> None:
    first = train("countdown", overrides=SMALL | {"evaluation.enabled": False})
    assert first.before is first.after is None
    with pytest.raises(RunError, match="there is a run in"):
        train("countdown", overrides=SMALL | {"evaluation.enabled": False})
    longer = train(overrides={"output": "runs/latest", "trainer.max_steps": 3}, resume=True)
    assert (longer.output, longer.num_updates, longer.metrics["step"]) == (first.output, 3, 3)


@pytest.mark.slow
def test_a_run_stopped_before_its_last_evaluation_is_evaluated_and_not_trained_further() -> None:
    whole = train("countdown", overrides=SMALL | {"trainer.max_steps": 1, "objective": "grpo", "output": "run"})
    assert whole.after is not None
    run = RunDirectory.open("run")
    rows, weights = run.read_metrics(), Path("run/checkpoints/checkpoint-1/model.safetensors").read_bytes()
    Path("run/evaluations/after.json").unlink()
    seen: list[Progress] = []
    again = train(overrides={"output": "run"}, resume=True, on_progress=seen.append)
    assert [event.stage for event in seen] == ["after"]
    assert again.after is not None
    assert again.after.metrics == whole.after.metrics
    assert run.read_metrics() == rows
    assert [path.name for path in Path("run/checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert Path("run/checkpoints/checkpoint-1/model.safetensors").read_bytes() == weights


def test_what_is_prepared_is_not_written(tmp_path: Path) -> None:
    prepared = prepare({"trainer": {"max_steps": 3}, "objective.alpha": 0.3}, overrides=["--output", "deep/run"])
    assert (prepared.plan.updates, prepared.settings.objective.options) == (3, {"alpha": 0.3})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"model": object()}, "give its tokenizer"), ({"verifier": 3}, "verifier is 3"), ({"task": 3}, "task is 3")],
)
def test_objects_that_do_not_do(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train("countdown", **given)


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    code = f"from relax_rl.workflows.train import train; train('countdown', overrides={SMALL | {'output': 'run'}!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
