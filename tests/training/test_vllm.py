"""Runs that sample with vLLM on a CPU, beside a transformers of its range (5.10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from support.launching import launched
from support.vllm_environment import ABSENT, environment, vllm_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.timeout(900),
    pytest.mark.skipif(vllm_python() is None, reason=ABSENT),
]

SMALL = [
    "--trainer.per_device_train_batch_size=16",
    "--trainer.gradient_accumulation_steps=1",
    "--trainer.max_completion_length=40",
    "--evaluation.num_problems=4",
    "--evaluation.num_samples=2",
    "--dictionary.steps=5",
]


def relax(*words: str, processes: int = 1) -> str:
    """A command of this package in vLLM's environment; what it printed."""
    python = str(vllm_python())
    done = launched(["-m", "support.vllm_cpu", *words], processes, python=python, environment=environment())
    return done.stdout


def updates_of(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward" in row]


# At this step size, a vLLM that kept the weights of the start would soon disagree with the policy.
LARGE = ["--trainer.learning_rate=0.003", "--trainer.max_steps=3", "--trainer.save_steps=3"]


def trained_beside_it(run: Path, processes: int, *words: str) -> None:
    """Train, and check that vLLM has sampled from the policy of each update."""
    engine = ["--trainer.use_vllm=true", "--trainer.vllm_mode=colocate"]
    relax("train", "countdown", "--output", str(run), *SMALL, *LARGE, *engine, *words, processes=processes)
    rows = updates_of(run)
    assert len(rows) == 3
    ratios = [row["sampling/importance_sampling_ratio/mean"] for row in rows]
    assert all(0.9 < ratio < 1.1 for ratio in ratios), ratios
    # How far three steps of this size go depends on the draws, which depend on the processor.
    assert rows[-1]["kl"] > 3 * abs(rows[1]["kl"]) > 0
    start = json.loads((run / "starts.jsonl").read_text().splitlines()[0])
    assert start["rollouts"] == "vLLM (colocate)"
    assert start["processes"] == processes
    for name in ("before", "after"):
        assert json.loads((run / f"evaluations/{name}.json").read_text())["backend"] == "vllm"


def test_two_processes_get_the_weights_of_each_update(tmp_path: Path) -> None:
    trained_beside_it(tmp_path / "run", 2)


def test_it_gets_the_adapter_of_each_update_and_reads_the_merged_folder(tmp_path: Path) -> None:
    run, merged = tmp_path / "run", tmp_path / "merged"
    trained_beside_it(run, 1, "--peft.r=8", "--trainer.learning_rate=0.01")
    assert main(["merge", str(run), str(merged)]) == 0
    words = ["eval", str(merged), "--task", "countdown", "--num-problems", "16", "--num-samples", "1"]
    words += ["--temperature", "0", "--dtype", "float32"]
    relax(*words, "--backend", "vllm", "--output", str(tmp_path / "vllm"))
    assert main([*words, "--output", str(tmp_path / "ours")]) == 0
    theirs, ours = (
        [sample["completion"] for sample in json.loads((tmp_path / name / "result.json").read_text())["samples"]]
        for name in ("vllm", "ours")
    )
    # The two break ties apart.
    assert sum(one == other for one, other in zip(theirs, ours, strict=True)) >= 14
    assert len(set(ours)) > 8


def test_an_evaluation_by_it_agrees_with_ours(tmp_path: Path) -> None:
    common = ["--task", "countdown", "--num-problems", "16", "--num-samples", "8"]
    relax("eval", "tiny", *common, "--backend", "vllm", "--output", str(tmp_path / "vllm"))
    assert main(["eval", "tiny", *common, "--output", str(tmp_path / "ours")]) == 0
    theirs, ours = (json.loads((tmp_path / name / "result.json").read_text())["metrics"] for name in ("vllm", "ours"))
    assert theirs["mean@1"]["low"] <= ours["mean@1"]["high"]
    assert ours["mean@1"]["low"] <= theirs["mean@1"]["high"]
