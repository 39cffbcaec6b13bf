"""A training that is stopped: where it ends, what it leaves, and that it can be continued."""

from __future__ import annotations

import errno
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from relax_rl.cli.main import main
from relax_rl.errors import ModelError, RunError
from relax_rl.import_path import resolve
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.emergency import disk_fault
from relax_rl.training.trl.recorder import RolloutRecorder
from support.comparisons import wait_for

SMALL = [
    *("train", "countdown", "--objective=grpo", "--monitor=false", "--evaluation.enabled=false", "--train-problems=8"),
    *("--trainer.max_steps=3", "--trainer.num_generations=4", "--trainer.per_device_train_batch_size=8"),
    *("--trainer.gradient_accumulation_steps=1", "--trainer.max_completion_length=64"),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main([*SMALL, "-o", str(run)]) == 0
    return run


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


def figures(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(("step_time", "time/"))} for row in rows]


def assert_same_run(first: Path, second: Path, last: int) -> None:
    """Weights, rows and completions, bit for bit."""
    one, two = (load_file(run / f"checkpoints/checkpoint-{last}/model.safetensors") for run in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert figures(first) == figures(second)
    assert sum(float(row["grad_norm"]) > 0 for row in figures(first)) > 1, "nothing was learned that could differ"
    names = [sorted(path.name for path in (run / "completions").iterdir()) for run in (first, second)]
    assert names[0] == names[1]
    assert all((first / "completions" / n).read_bytes() == (second / "completions" / n).read_bytes() for n in names[0])


@pytest.mark.slow
def test_the_update_is_finished_kept_and_continued(
    whole: Path, signals: dict[int, signal.Signals], capsys: pytest.CaptureFixture[str]
) -> None:
    signals[1] = signal.SIGTERM
    assert main([*SMALL, "-o", "cut"]) == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("relax: stopped by SIGTERM; update 1 of 3 is kept in cut/checkpoints/checkpoint-1; ")
    assert RunDirectory("cut").last_step() == 1
    command = shlex.split(said.partition(" with: ")[2])
    signals[2] = signal.SIGINT
    assert main(command[1:]) == 130
    assert main(command[1:]) == 0
    assert_same_run(whole, Path("cut"), 3)


@pytest.mark.slow
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


# Exceptions -----------------------------------------------------------------------------------------------------------


def failing(target: str, at: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of a method of a class raises."""
    module, _, path = target.partition(":")
    owner, name = resolve(f"{module}:{path.rpartition('.')[0]}"), path.rpartition(".")[2]
    function, calls = getattr(owner, name), [0]

    def instead(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, instead)


REWARD = "relax_rl.rewards.reward_function:VerifierReward.__call__"


@pytest.mark.slow
def test_what_an_exception_would_lose_is_kept(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(REWARD, 3, ModelError("the judge is gone"), monkeypatch)
    assert main([*SMALL, "-o", "cut"]) == 2
    error, kept = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("relax: error: the judge is gone")
    assert kept.startswith("relax: update 2 of 3 is kept in cut/checkpoints/checkpoint-2; continue with: relax train ")
    assert main(shlex.split(kept.partition(" with: ")[2])[1:]) == 0
    assert_same_run(whole, Path("cut"), 3)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["exception", "signal"])
def test_what_is_kept_in_the_middle_of_a_rollout_batch(
    fault: str, monkeypatch: pytest.MonkeyPatch, signals: dict[int, signal.Signals]
) -> None:
    words = [*SMALL, "--trainer.steps_per_generation=2", "--trainer.max_steps=4", "--trainer.save_steps=2"]
    assert main([*words, "-o", "whole"]) == 0
    if fault == "exception":
        failing(
            "relax_rl.training.trl.recorder:RolloutRecorder.add", 4, ModelError("in the fourth update"), monkeypatch
        )
    else:
        add, calls = RolloutRecorder.add, [0]

        def interrupted(recorder: RolloutRecorder, *given: Any) -> None:
            calls[0] += 1
            if calls[0] == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            add(recorder, *given)

        monkeypatch.setattr(RolloutRecorder, "add", interrupted)
    assert main([*words, "-o", "cut"]) == (2 if fault == "exception" else 143)
    assert (Path("cut") / "checkpoints" / "checkpoint-3" / "manifest.json").is_file()
    assert main([*words, "--resume", "-o", "cut"]) == 0
    assert_same_run(Path("whole"), Path("cut"), 4)


@pytest.mark.slow
def test_an_unexpected_exception_keeps_its_traceback_and_says_how_to_continue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(REWARD, 2, ZeroDivisionError("a defect of mine"), monkeypatch)
    with pytest.raises(ZeroDivisionError, match="a defect of mine") as raised:
        main([*SMALL, "-o", "cut"])
    kept, how = raised.value.__notes__[-2:]
    assert kept == "relax: update 1 of 3 is kept in cut/checkpoints/checkpoint-1"
    assert how.startswith("update 1 of 3 is kept in cut/checkpoints/checkpoint-1; continue with: relax train")


@pytest.mark.slow
def test_an_exception_in_the_middle_of_the_optimisers_step_keeps_no_torn_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, calls = torch.optim.AdamW.step, [0]

    def torn(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        step(optimizer, *args, **kwargs)
        if calls[0] == 2:
            raise RuntimeError("in the middle")

    monkeypatch.setattr(torch.optim.AdamW, "step", torn)
    with pytest.raises(RuntimeError, match="in the middle"):
        main([*SMALL, "-o", "cut"])
    assert RunDirectory("cut").latest_checkpoint() is None


# Disks ----------------------------------------------------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the file")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("relax_rl.training.trl.trainer:RelaxTrainer._save_rng_state", marks=pytest.mark.slow),
        pytest.param("transformers.trainer_callback:TrainerState.save_to_json", marks=pytest.mark.slow),
        pytest.param("relax_rl.runs:RunDirectory.append_metrics", marks=pytest.mark.slow),
        "relax_rl.runs:RunDirectory.write_completions",
    ],
)
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(
    target: str, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "--trainer.save_steps=1"]
    failing(target, 2, FULL, monkeypatch)
    assert main([*words, "-o", "cut"]) == 2
    error, kept = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("relax: error: the run cut cannot be written: the file: no space is left on the device; ")
    assert "update 1 of 3 is kept in cut/checkpoints/checkpoint-1; continue with: relax train " in kept
    assert main([*words, "--resume", "-o", "cut"]) == 0
    assert_same_run(whole, Path("cut"), 3)


def test_a_short_write_leaves_no_half_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The real thing: a file may not grow (``ulimit -f``), and the system takes only a part of the row."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    append = RunDirectory.append_metrics

    def limited(run: RunDirectory, step: int, metrics: Any) -> None:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (run.metrics_path.stat().st_size + 10, limits[1]))
        try:
            append(run, step, metrics)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(RunDirectory, "append_metrics", limited)
    assert main([*SMALL, "--trainer.save_steps=1", "-o", "cut"]) == 2
    assert "cut/metrics.jsonl" in capsys.readouterr().err.splitlines()[-2]
    assert (Path("cut") / "metrics.jsonl").read_text().count("\n") == len(figures(Path("cut"))) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "Read-only file system", "x/y"), "x/y: the file system is read-only"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota is used up"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "no space is left",
        ),
        (RuntimeError("unexpected pos 3133632 vs 3133524"), "a file could not be written to its end"),
        (RuntimeError("probability tensor contains either inf"), None),
        (OSError(errno.ECONNREFUSED, "refused"), None),
        (RunError("said already"), None),
    ],
)
def test_what_is_the_disks_fault(error: Exception, words: str | None) -> None:
    fault = disk_fault(error)
    assert fault == words if words is None else words in (fault or "")


@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_all_processes_stop_after_the_same_update(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "--", "relax_rl.cli.main"]
    words = [word for word in SMALL if "max_steps" not in word and "batch_size" not in word]
    words += ["--trainer.max_steps=40", "--trainer.per_device_train_batch_size=4", "-o", "cut"]
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
