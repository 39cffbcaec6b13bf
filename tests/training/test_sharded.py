"""Runs under DDP, FSDP2 and DeepSpeed: the numbers of one process, whatever shares the model, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from relax_rl.cli.main import main
from support.launching import ENVIRONMENT, ROOT, launched, relax

ENVIRONMENTS = Path(os.environ.get("RELAX_ENVIRONMENTS", str(ROOT / ".environments")))
LOCK = hashlib.sha256((ROOT / "requirements-deepspeed.lock").read_bytes()).hexdigest()
DEEPSPEED = (ROOT / ENVIRONMENTS / f"deepspeed-{LOCK[:12]}").absolute()
needs_deepspeed = pytest.mark.skipif(
    not (DEEPSPEED / ".installed").is_file(), reason="DeepSpeed is not installed; 'make sharded-env' does so"
)
WITH_DEEPSPEED = ENVIRONMENT | {
    "PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(DEEPSPEED)]),
    "PATH": os.pathsep.join([str(DEEPSPEED / "bin"), ENVIRONMENT["PATH"]]),
    "TORCH_EXTENSIONS_DIR": str(DEEPSPEED / "operators"),
    "DS_ACCELERATOR": "cpu",
}

# With the default epsilon, Adam would blow up the last bits of the smallest gradients.
SETTINGS = (
    *("--model=tiny", "--trainer.num_generations=8", "--trainer.max_completion_length=24"),
    *("--trainer.max_steps=4", "--trainer.save_steps=2", "--trainer.adam_epsilon=0.01", "--trainer.learning_rate=0.01"),
    *("--dictionary.steps=5", "--dictionary.num_observables=4", "--objective.xi=quantile:0.5"),
    *("--evaluation.num_problems=6", "--evaluation.num_samples=2", "--evaluation.batch_size=4"),
)


def batch(micro: int, accumulation: int) -> tuple[str, str]:
    """32 completions an update, whatever the number of processes."""
    return (
        f"--trainer.per_device_train_batch_size={micro}",
        f"--trainer.gradient_accumulation_steps={accumulation}",
    )


def run(
    output: Path,
    processes: int,
    *words: str,
    environment: dict[str, str] = ENVIRONMENT,
    killed: bool = False,
    check: bool = True,
) -> Any:
    script = str(ROOT / "tests/support/strategy_ranks.py")
    return launched(
        [script, "train", *words, "--output", str(output)],
        processes,
        environment=environment | {"KILL_IN_UPDATE": "3" if killed else "0"},
        check=check,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, and beside it the evaluation before training for others to take."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder / "run", 1, "countdown", *SETTINGS, *batch(16, 2), "--share-before", str(folder / "before"))
    return folder / "run"


def evaluation(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / "evaluations" / f"{name}.json").read_text())


def assert_same_run(found: Path, expected: Path) -> None:
    """Parameters and dictionary to rounding; completions, their scores and both evaluations' records exactly."""
    for file in ("model.safetensors", "dictionary.safetensors"):
        ours, theirs = (load_file(path / "checkpoints/checkpoint-4" / file) for path in (found, expected))
        # FSDP writes a tied head, which the embedding holds already.
        assert set(ours) - {"lm_head.weight"} == set(theirs)
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=0.0, msg=name)
    names = sorted(path.name for path in (expected / "completions").iterdir())
    assert names == sorted(path.name for path in (found / "completions").iterdir())
    for name in names:
        ours, theirs = (
            [json.loads(line) for line in (path / "completions" / name).read_text().splitlines()]
            for path in (found, expected)
        )
        for one, other in zip(ours, theirs, strict=True):
            assert one.pop("dsd") == pytest.approx(other.pop("dsd"), abs=1e-5)
            assert one == other
    for name in ("before", "after"):
        ours, theirs = evaluation(found, name), evaluation(expected, name)
        for one, other in zip(ours["samples"], theirs["samples"], strict=True):
            assert [one[key] for key in ("id", "completion", "score") if key in one] == [
                other[key] for key in ("id", "completion", "score") if key in other
            ]
        assert ours["metrics"].keys() == theirs["metrics"].keys()
        for metric, value in theirs["metrics"].items():
            assert ours["metrics"][metric] == pytest.approx(value, rel=1e-4), metric


def assert_killed_and_resumed(
    output: Path, alone: Path, processes: int, *words: str, environment: dict[str, str] = ENVIRONMENT
) -> str:
    """What the killed run had said."""
    words = ("countdown", *SETTINGS, *batch(32 // processes, 1), *words)
    died = run(output, processes, *words, environment=environment, killed=True, check=False)
    assert died.returncode != 0
    assert [path.name for path in (output / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"], died.stderr[
        -3000:
    ]
    run(output, processes, "--resume", environment=environment)
    assert_same_run(output, alone)
    with redirect_stdout(StringIO()) as said:
        assert main(["doctor", str(output), "--checkpoints"]) == 0
    assert said.getvalue().count("whole") == 2
    return died.stdout + died.stderr


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_four_processes(alone: Path, tmp_path: Path) -> None:
    shared = tmp_path / "before"
    assert_killed_and_resumed(tmp_path / "run", alone, 4, "--share-before", str(shared))
    # What four made together is what one process made.
    (ours,), (theirs,) = (list(path.glob("*/before.json")) for path in (shared, alone.parent / "before"))
    assert ours.read_text() == theirs.read_text()
    assert ours.parent.name == theirs.parent.name


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_two_processes_take_an_evaluation_that_is_shared(alone: Path, tmp_path: Path) -> None:
    said = assert_killed_and_resumed(tmp_path / "run", alone, 2, "--share-before", str(alone.parent / "before"))
    assert said.count("The evaluation before training is the one in") == 1


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_fsdp2(alone: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert_killed_and_resumed(output, alone, 2, "--trainer.fsdp=true")
    assert_only_the_evaluation_is_made_again(output)
    refused = relax("train", "--resume", "--output", str(output), "--trainer.max_steps=6", check=False)
    assert refused.returncode == 2


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_fsdp2_of_four_processes(alone: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", 4, "countdown", *SETTINGS, *batch(8, 1), "--trainer.fsdp=true")
    assert_same_run(tmp_path / "run", alone)


def assert_only_the_evaluation_is_made_again(output: Path, environment: dict[str, str] = ENVIRONMENT) -> None:
    """A run that died after its last update."""
    after = evaluation(output, "after")
    (output / "evaluations/after.json").unlink()
    run(output, 2, "--resume", environment=environment)
    again = evaluation(output, "after")
    assert again["samples"] == after["samples"]
    assert again["metrics"] == after["metrics"]


def zero(stage: int, folder: Path) -> Path:
    """DeepSpeed's configuration in a file."""
    settings = folder / "zero.json"
    asked = {"zero_force_ds_cpu_optimizer": False, "zero_optimization": {"stage": stage}}
    automatic = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    settings.write_text(json.dumps(asked | dict.fromkeys(automatic, "auto")))
    return settings


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed(stage: int, alone: Path, tmp_path: Path) -> None:
    settings, output = zero(stage, tmp_path), tmp_path / "run"
    assert_killed_and_resumed(output, alone, 2, f"--trainer.deepspeed={settings}", environment=WITH_DEEPSPEED)
    if stage == 3:
        assert_only_the_evaluation_is_made_again(output, WITH_DEEPSPEED)
    refused = relax("train", "--resume", "--output", str(output), check=False)
    assert refused.returncode == 2


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_zero_3_of_four_processes(alone: Path, tmp_path: Path) -> None:
    words = (*SETTINGS, *batch(8, 1), f"--trainer.deepspeed={zero(3, tmp_path)}")
    run(tmp_path / "run", 4, "countdown", *words, environment=WITH_DEEPSPEED)
    assert_same_run(tmp_path / "run", alone)
