"""A training that is stopped: where it ends, what it leaves, and that it can be continued."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from relax_rl.cli.main import main
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.recorder import RolloutRecorder
from support.comparisons import wait_for

SMALL = [
    *("train", "countdown", "--objective=grpo", "--monitor=false", "--evaluation.enabled=false", "--train-problems=8"),
    *("--trainer.max_steps=3", "--trainer.num_generations=2", "--trainer.per_device_train_batch_size=4"),
    *("--trainer.gradient_accumulation_steps=1", "--trainer.max_completion_length=20"),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> dict[int, signal.Signals]:
    """Signals that reach this process in the middle of an update, by update; each comes once."""
    wanted: dict[int, signal.Signals] = {}
    finish = RolloutRecorder.finish

    def interrupted(recorder: RolloutRecorder, step: int) -> None:
        if step in wanted:
            os.kill(os.getpid(), wanted.pop(step))
        finish(recorder, step)

    monkeypatch.setattr(RolloutRecorder, "finish", interrupted)
    return wanted


def figures(run: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_time"} for row in rows]


def assert_same_run(first: Path, second: Path, last: int) -> None:
    """Weights, rows and completions, bit for bit."""
    one, two = (load_file(run / f"checkpoints/checkpoint-{last}/model.safetensors") for run in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert figures(first) == figures(second)
    names = [sorted(path.name for path in (run / "completions").iterdir()) for run in (first, second)]
    assert names[0] == names[1]
    assert all((first / "completions" / n).read_bytes() == (second / "completions" / n).read_bytes() for n in names[0])


def test_the_update_is_finished_kept_and_continued(
    signals: dict[int, signal.Signals], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "-o", "whole"]) == 0
    signals[1] = signal.SIGTERM
    assert main([*SMALL, "-o", "cut"]) == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("relax: stopped by SIGTERM; update 1 of 3 is kept in cut/checkpoints/checkpoint-1; ")
    assert RunDirectory("cut").last_step() == 1
    command = shlex.split(said.partition(" with: ")[2])
    signals[2] = signal.SIGINT
    assert main(command[1:]) == 130
    assert main(command[1:]) == 0
    assert_same_run(Path("whole"), Path("cut"), 3)


def test_a_stop_in_the_last_update_leaves_the_evaluation(signals: dict[int, signal.Signals]) -> None:
    words = [word for word in SMALL if "enabled" not in word and "max_steps" not in word]
    words += ["--trainer.max_steps=1", "--evaluation.before=false", "--evaluation.num_problems=2"]
    words += ["--evaluation.num_samples=2", "--dictionary.num_observables=4", "--dictionary.steps=0", "-o", "cut"]
    signals[1] = signal.SIGUSR1
    assert main(words) == 138
    assert not RunDirectory("cut").is_evaluated("after")
    assert main([*words, "--resume"]) == 0
    assert RunDirectory("cut").is_evaluated("after")


def test_a_stop_before_the_first_update_says_to_start_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr("relax_rl.training.measurement.PolicyEvaluation._fit", fit)
    assert main([*[word for word in SMALL if "enabled" not in word], "-o", "cut"]) == 129
    said = capsys.readouterr().err.splitlines()[-1]
    assert "stopped by SIGHUP; nothing is kept; start again with: relax train" in said
    assert said.endswith("--overwrite")


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_all_processes_stop_after_the_same_update(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "--", "relax_rl.cli.main"]
    words = [word for word in SMALL if "max_steps" not in word and "batch_size" not in word]
    words += ["--trainer.max_steps=40", "--trainer.per_device_train_batch_size=2", "-o", "cut"]
    process = subprocess.Popen([*launcher, *words], env=environment, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "cut" / "metrics.jsonl").is_file, 300)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=300)[1]
    said = [line for line in errors.splitlines() if line.startswith("relax: ")]
    (checkpoint,) = Path("cut/checkpoints").glob("checkpoint-*")
    update = int(checkpoint.name.removeprefix("checkpoint-"))
    assert len(said) == 1
    assert f"stopped by SIGTERM; update {update} of 40 is kept in {checkpoint}; continue with: torchrun " in said[0]
    assert RunDirectory("cut").last_step() == update < 40
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
