"""Which solution a completion found, from the verifier to the objective and into the records."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import MODES
from relax_rl.rewards import CallableVerifier, CountdownVerifier, MathVerifier, VerifierReward
from relax_rl.rewards.functions import RewardFunction, Rewards
from relax_rl.runs import RunDirectory
from relax_rl.tasks.modes import WITH_MODES, require_modes
from relax_rl.tasks.registry import build_task
from relax_rl.training.inputs.modes import mode_number
from relax_rl.training.trl.recorder import RolloutRecorder
from support.scripted import GROUP, ScriptedTrainer, make_trainer

FOUND = ("a+b", "a*b", None, "a+b")


def told(completions: list[Any], log_extra: Any, **_: Any) -> list[float]:
    log_extra("mode", [FOUND[index % GROUP] for index in range(len(completions))])
    return [float(index % GROUP != 2) for index in range(len(completions))]


ANSWERS = (r"\boxed{7.0}", r"\boxed{\frac12}", "nothing", r"\boxed{0.5}")
CLASSES = ("right", "wrong: 0.5", None, "wrong: 0.5")


def of_mathematics(completions: list[Any], log_extra: Any, **_: Any) -> list[float | None]:
    texts = [ANSWERS[index % GROUP] for index in range(len(completions))]
    return VerifierReward(MathVerifier())(completions=texts, answer=["7"] * len(texts), log_extra=log_extra)


@pytest.mark.parametrize(
    ("reward", "found", "advantages"),
    [
        # Of four, three are right, two of them in one mode: 4/2 - 2, 4/1 - 2, -2, 4/2 - 2.
        (told, FOUND, [0.0, 2.0, -2.0, 0.0]),
        # Right answers are one class, so that this is MaxRL: 4/1 - 1, -1, -1, -1.
        (of_mathematics, CLASSES, [3.0, -1.0, -1.0, -1.0]),
    ],
)
def test_the_objective_and_the_records_have_the_modes_that_a_reward_function_told(
    reward: Any, found: tuple[str | None, ...], advantages: list[float], tmp_path: Path
) -> None:
    run = RunDirectory.new(tmp_path / "run")
    run.start(load_config("countdown", []))
    kind = functools.partial(ScriptedTrainer, recorder=RolloutRecorder(run))
    trainer = make_trainer(build_objective("mode_max_rl"), tmp_path, trainer_class=kind, max_steps=1, reward=reward)
    seen = []
    inner = trainer.rollout_batch
    trainer.rollout_batch = lambda *rows: seen.append(inner(*rows)) or seen[-1]
    trainer.train()
    for batch in seen:
        expected = [mode_number(mode) for mode in found]
        assert expected[2] == -1
        assert batch.extras[MODES].dtype == torch.int64
        assert batch.extras[MODES].tolist() == [expected] * 2
    rows = [json.loads(line) for line in (run.path / "completions/step_000001.jsonl").read_text().splitlines()]
    assert [row["mode"] for row in rows] == list(found) * 4
    assert [row["advantage"] for row in rows] == pytest.approx(advantages * 4)


@pytest.mark.slow
def test_a_run_of_a_task_with_modes_records_them(tmp_path: Path) -> None:
    words = (
        "train countdown --objective.name coverage --objective.k 2 --trainer.max_steps 1 --trainer.num_generations 4"
    )
    words += (
        " --trainer.per_device_train_batch_size 8 --trainer.gradient_accumulation_steps 1 --evaluation.enabled false"
    )
    assert main([*words.split(), "--output", str(tmp_path / "run")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/completions/step_000001.jsonl").read_text().splitlines()]
    verdicts = CountdownVerifier().grade([row["completion"] for row in rows], [row["answer"] for row in rows])
    assert [row["mode"] for row in rows] == [verdict.mode for verdict in verdicts]
    assert any(row["mode"] for row in rows)


def silent(completions: list[Any], **_: Any) -> list[float]:
    return [1.0] * len(completions)


def short(completions: list[Any], log_extra: Any, **_: Any) -> list[float]:
    log_extra("mode", ["x"])
    return [1.0] * len(completions)


@pytest.mark.parametrize(
    ("reward", "words"), [(silent, "no reward function tells it"), (short, "with 1 values for 16 completions")]
)
def test_modes_that_are_not_told_or_not_of_each_are_refused(reward: Any, words: str, tmp_path: Path) -> None:
    trainer = make_trainer(build_objective("mode_max_rl"), tmp_path, max_steps=1, reward=reward)
    with pytest.raises(DataError, match=words):
        trainer.train()


def test_a_method_that_needs_modes_is_refused_on_a_task_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "countdown",
        "--objective.name",
        "mode_max_rl",
        "--verifier",
        "exact",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    tasks = "countdown, many_solutions, countdown_muted, maze, or mathematical problems such as gsm8k"
    assert f"tells none; train on a task that has modes ({tasks})" in error
    assert not (tmp_path / "run").exists()


def test_what_may_tell_modes_is_not_refused() -> None:
    own = CallableVerifier(lambda completions, answers: [1.0 for _ in completions], name="own")
    with pytest.raises(ConfigError, match="the verifier 'own' tells none"):
        require_modes("coverage", Rewards(own))
    require_modes("coverage", Rewards(own, (RewardFunction(told, "told"),)))
    require_modes("coverage", Rewards(CountdownVerifier()))
    require_modes("coverage", Rewards(MathVerifier()))


def test_the_tasks_that_are_named_have_modes() -> None:
    for name in WITH_MODES:
        task = build_task(name)
        problem = next(one for one in task.problems("train", 1) if one.solution is not None)
        verdicts = task.verifier.grade([problem.solution], [problem.answer])  # type: ignore[attr-defined]
        assert verdicts[0].mode is not None


def test_a_mode_is_one_number_everywhere() -> None:
    assert mode_number("a+b") == mode_number("a+b") != mode_number("a*b")
    assert 0 <= mode_number("") < 2**63
