"""`relax doctor` names the cause on runs made to fail in many ways, and nothing on a healthy one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.runs import RunDirectory
from relax_rl.workflows.doctor import diagnose
from relax_rl.workflows.endings import telling_what_is_kept
from relax_rl.workflows.symptoms import symptoms_of
from relax_rl.workflows.train import train

NUM_UPDATES = 40
Row = dict[str, float | None]


def healthy(step: int) -> Row:
    """The figures of an update of a run that learns, as the product logs them."""
    wobble = 0.02 if step % 2 else -0.02
    return {
        "loss": 0.01,
        "grad_norm": 0.2,
        "reward": 0.25 + 0.004 * step + wobble,
        "frac_reward_zero_std": 0.1,
        "completions/clipped_ratio": 0.01,
        "completions/mean_terminated_length": 46.0,
        "entropy": 0.24 - 0.001 * step,
        "entropy/covariance": 0.008,
        "clip_ratio/region_mean": 0.0,
        "kl": 0.0 if step == 1 else 0.001,
        "latent/dsd": 0.03,
        "latent/dsd_max": 0.07,
        "latent/spectral_radius": 0.99,
        "latent/kl_gate": 0.1,
        "completions/mean_length": 46.0,
        "completions/max_length": 90.0,
        "step_time": 10.0,
        "time/rollout": 6.0,
        "time/reward": 0.5,
    }


def entropy_lost(step: int) -> Row:
    return healthy(step) | {"entropy": 0.24 * 0.9**step, "entropy/covariance": 0.03}


FAULTS: dict[str, tuple[list[str], Callable[[int], Row], str, tuple[str, ...]]] = {
    "truncated": (
        ["--trainer.max_completion_length", "24"],
        lambda step: healthy(step) | {"completions/clipped_ratio": 0.92, "reward": 0.01},
        "completions are truncated",
        ("92 % ", "trainer.max_completion_length (24)", "took 46 tokens"),
    ),
    "too hard": (
        [],
        lambda step: healthy(step) | {"frac_reward_zero_std": 0.95, "reward": 0.0},
        "all groups are equal",
        ("95 % ", "too hard", "the mean reward is 0.00", "trainer.num_generations (16)"),
    ),
    "entropy lost": (
        ["--trainer.learning_rate", "0.001"],
        entropy_lost,
        "the entropy is gone",
        ("0.177 to ", "is 0.03 on average, above 0 in 100 %", "trainer.learning_rate (0.001)"),
    ),
    "large steps": (
        ["--trainer.num_iterations", "8"],
        lambda step: healthy(step) | {"clip_ratio/region_mean": 0.4},
        "most tokens are clipped",
        ("40 % ", "serves 8 updates"),
    ),
    "inert": (
        ["--objective", "kl_cov"],
        healthy,
        "settings have no effect",
        ("serves 1 update and the clip share is 0 %", "kl_cov is the plain policy gradient"),
    ),
    "not finite": (
        [],
        lambda step: healthy(step) | ({"guard/skipped": 1.0, "grad_norm": None} if step in (7, 9) else {}),
        "numbers are not finite",
        ("2 of 40 updates", "the first was update 7"),
    ),
    "dispersion": (
        ["--objective.estimator", "singular"],
        lambda step: healthy(step) | {"latent/dsd": 0.03 * 1.2**step},
        "DSD explodes",
        ("DSD went from 0.0536 to ", "objective.estimator to robust"),
    ),
    "unscored": (
        [],
        lambda step: healthy(step) | {"grading/unscored": 0.5},
        "the verifier says None",
        ("50 % ", "relax tasks validate countdown"),
    ),
    "other reference": (
        [],
        lambda step: healthy(step) | {"kl": 0.02},
        "KL is not 0 at step 1",
        ("0.02 in the first update",),
    ),
    "never gated": (
        ["--objective.xi", "25"],
        lambda step: healthy(step) | {"latent/kl_gate": 0.0},
        "the KL never acts",
        ("is 0.07", "quantile:0.9"),
    ),
    "flat": (
        ["--trainer.learning_rate", "1e-9"],
        lambda step: healthy(step) | {"reward": 0.25 + (0.02 if step % 2 else -0.02)},
        "the reward stays flat",
        ("over 40 logged updates", "trainer.learning_rate (1e-09)"),
    ),
    "slow rollouts": (
        [],
        lambda step: healthy(step) | {"time/rollout": 9.5, "completions/max_length": 90.0},
        "rollouts are slow",
        ("95 % of the time", "9.5 s an update", "trainer.max_completion_length (96)"),
    ),
    "one long completion": (
        [],
        lambda step: healthy(step) | {"time/rollout": 7.0, "completions/max_length": 400.0},
        "rollouts are slow",
        ("70 % of the time", "400 tokens, where the mean is 46"),
    ),
    "slow rewards": (
        [],
        lambda step: healthy(step) | {"time/reward": 4.0},
        "rewards are slow",
        ("40 % of the time", "4 s an update"),
    ),
    "entropy rises": (
        [],
        lambda step: healthy(step) | {"entropy": 0.24 + 0.05 * step, "entropy/covariance": -0.01},
        "the entropy explodes",
        ("is -0.01 on average, above 0 in 0 %",),
    ),
}


def written(folder: Path, words: list[str], row: Callable[[int], Row], count: int = NUM_UPDATES) -> Path:
    """A run directory with this log, made by the product's own writers."""
    run = RunDirectory.new(folder)
    with run.held():
        run.start(load_config("countdown", [*words, "--output", str(folder)]))
        for step in range(1, count + 1):
            run.append_metrics(step, row(step))
    return folder


def told(text: str) -> str:
    return " ".join(text.replace("%", " % ").split())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_doctor_names_the_fault_its_number_and_the_setting(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, row, name, said = FAULTS[fault]
    main(["doctor", str(written(tmp_path / "run", words, row))])
    out = told(capsys.readouterr().out)
    assert out.count("symptom ") == 1, out
    assert f"symptom {name}: " in out
    assert all(told(part) in out for part in said), out


def test_a_run_that_ended_for_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(written(tmp_path / "run", [], healthy))
    run.append_start({"update": 0} | _START)
    run.append_end(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    main(["doctor", str(run.path)])
    out = told(capsys.readouterr().out)
    assert "ended after update 40: RuntimeError: CUDA out of memory." in out
    assert "symptom out of memory: the run ended after update 40 with RuntimeError" in out
    assert "trainer.per_device_train_batch_size (" in out


def test_an_end_before_the_last_start_and_another_error_are_no_symptom(tmp_path: Path) -> None:
    run = RunDirectory(written(tmp_path / "run", [], healthy))
    run.append_start({"update": 0} | _START)
    run.append_end(MemoryError("x"))
    run.append_start({"update": 40} | _START)
    assert diagnose(run.path).ending is None
    run.append_end(ValueError("a bug"))
    found = diagnose(run.path)
    assert found.ending is not None
    assert found.ending.error == "ValueError"
    assert found.symptoms == ()


def test_a_run_whose_process_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real process that is killed while it holds the run, as the kernel does when memory runs out."""
    run = written(tmp_path / "run", [], healthy, count=12)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from relax_rl.runs.lock import FolderLock\n"
        "FolderLock(Path(sys.argv[1])).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(run)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    main(["doctor", str(run)])
    out = told(capsys.readouterr().out)
    assert "symptom out of memory: process " in out
    assert "is gone without a word after update 12" in out
    assert "set trainer.activation_checkpointing to true" in out


def test_a_training_that_fails_leaves_its_error(tmp_path: Path) -> None:
    run = RunDirectory(written(tmp_path / "run", [], healthy, count=3))
    run.append_start({"update": 0} | _START)
    with pytest.raises(MemoryError), telling_what_is_kept(run, 40):
        raise MemoryError("Unable to allocate 9.1 GiB")
    (symptom,) = diagnose(run.path).symptoms
    assert symptom.name == "out of memory"
    assert "after update 3 with MemoryError: Unable to allocate 9.1 GiB" in symptom.found


_START: dict[str, Any] = {
    "processes": 1,
    "strategy": "one process",
    "versions": {},
    "precision": "float32",
    "attention": "sdpa",
    "rollouts": "generate",
    "hardware": "CPU",
}


def test_a_healthy_run_has_no_symptom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", str(written(tmp_path / "run", [], healthy))])
    out = capsys.readouterr().out
    assert "symptom" not in out
    assert "nothing wrong in the log" in out


def test_a_run_without_rows_and_a_row_without_figures_have_none() -> None:
    config = load_config("countdown", [])
    assert symptoms_of(config, []) == []
    assert symptoms_of(config, [{"step": 1}, {"step": 2, "reward": None, "entropy": None, "kl": None}]) == []


def test_each_symptom_has_a_section_in_the_guide() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/troubleshooting.md").read_text("utf-8").lower()
    for name in ("out of memory", *(name for _, _, name, _ in FAULTS.values())):
        assert f"## {name}\n".lower() in page or f"## all {name}\n".lower() in page, name


@pytest.mark.slow
def test_a_real_run_whose_completions_are_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {
        "trainer.max_steps": 2,
        "trainer.num_generations": 4,
        "trainer.per_device_train_batch_size": 8,
        "trainer.gradient_accumulation_steps": 1,
        "trainer.max_completion_length": 8,
        "dictionary.num_observables": 4,
        "evaluation.enabled": False,
        "output": str(tmp_path / "run"),
    }
    train("countdown", overrides=settings, objective="clip_cov")
    assert main(["doctor", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "completions are truncated: 100%" in out
    assert "all groups are equal: 100%" in out
    assert "settings have no effect" in out
