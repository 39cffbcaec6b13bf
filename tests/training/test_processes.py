"""Several processes, and processes that are killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from soak.equality import run_differences
from support.launching import ENVIRONMENT, ROOT, launched, relax


def run_ranks(method: str, output: Path, processes: int, accumulation: int) -> tuple[dict[str, torch.Tensor], list]:
    output.mkdir()
    script = [str(ROOT / "tests/support/ranks.py"), method, str(output), str(accumulation)]
    launched(script, processes)
    started, rows = json.loads((output / "log.json").read_text())
    assert started == processes
    assert (output / "checkpoint-2" / "dictionary.safetensors").is_file() == (method == "relax")
    return torch.load(output / "parameters.pt"), rows


@pytest.mark.distributed
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "method", ["grpo", "relax", "forking_tokens", "kl_cov", "opefo", "adaptive_entropy_bonus", "dcpo", "flow_rl"]
)
def test_two_ranks_take_the_steps_of_one_process(method, tmp_path):
    alone, alone_rows = run_ranks(method, tmp_path / "one", processes=1, accumulation=2)
    together, together_rows = run_ranks(method, tmp_path / "two", processes=2, accumulation=1)
    # Plain SGD without clipping: equal parameters after two updates are equal gradients.
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, atol=1e-5, rtol=1e-4, msg=name)
    for ours, theirs in zip(together_rows, alone_rows, strict=True):
        for key in ("reward", "entropy", *(["latent/dsd"] if method == "relax" else [])):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
    if method == "relax":
        one, two = (load_file(tmp_path / name / "checkpoint-2" / "dictionary.safetensors") for name in ("one", "two"))
        for name, expected in one.items():
            torch.testing.assert_close(two[name], expected, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.distributed
@pytest.mark.timeout(300)
def test_a_rehearsal_counts_the_processes_and_one_speaks(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "--"]
    words = ["relax_rl.cli.main", "train", "countdown", "--dry-run"]
    done = subprocess.run([*launcher, *words], env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2 processes x 4 micro-batches of 64") == 1
    assert list(tmp_path.iterdir()) == []


SMALL = [
    "--trainer.per_device_train_batch_size=16",
    "--trainer.gradient_accumulation_steps=2",
    "--trainer.num_generations=8",
    "--trainer.max_steps=4",
    "--trainer.save_steps=2",
    "--objective.xi=quantile:0.5",
    "--dictionary.steps=5",
    "--evaluation.enabled=false",
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    relax("train", "countdown", "--output", str(whole), *SMALL)
    process = subprocess.Popen(
        [sys.executable, "-m", "relax_rl.cli.main", "train", "countdown", "--output", str(broken), *SMALL],
        env=ENVIRONMENT,
    )
    state = broken / "checkpoints/checkpoint-2/manifest.json"
    deadline = time.monotonic() + 900
    # The third update is under way as soon as the checkpoint of the second is complete.
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    refused = relax("train", "countdown", "--output", str(broken), *SMALL, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    relax("train", "--resume", "--output", str(broken))
    assert run_differences(whole, broken) == []
