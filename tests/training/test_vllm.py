"""Runs that sample with vLLM on a CPU, beside a transformers of its range (5.10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

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


class Beside(NamedTuple):
    """A run whose rollouts vLLM drew.

    Attributes:
        ratios: of each update, the mean ratio of the policy's probabilities to those that vLLM sampled with.
        kl: of each update, how far the policy is from the start.
        ran: what drew the rollouts, in how many processes.
        backends: of the evaluations before and after.
    """

    ratios: list[float]
    kl: list[float]
    ran: tuple[str, int]
    backends: list[str]

    @property
    def sampled_from_each_update(self) -> bool:
        """Whether vLLM agreed with a policy that moved away from the start."""
        # How far three steps of this size go depends on the draws, which depend on the processor.
        has_moved = self.kl[-1] > 3 * abs(self.kl[1]) > 0
        return has_moved and len(self.ratios) == 3 and all(0.9 < ratio < 1.1 for ratio in self.ratios)


def trained_beside_it(run: Path, processes: int, *words: str) -> Beside:
    # On a CPU vLLM refuses to start with less free memory than its share of the machine's, which other tests use, too.
    share = "--trainer.vllm_gpu_memory_utilization=0.1"
    engine = ["--trainer.use_vllm=true", "--trainer.vllm_mode=colocate", share]
    relax("train", "countdown", "--output", str(run), *SMALL, *LARGE, *engine, *words, processes=processes)
    rows = updates_of(run)
    start = json.loads((run / "starts.jsonl").read_text().splitlines()[0])
    return Beside(
        [row["sampling/importance_sampling_ratio/mean"] for row in rows],
        [row["kl"] for row in rows],
        (start["rollouts"], start["processes"]),
        [json.loads((run / f"evaluations/{name}.json").read_text())["backend"] for name in ("before", "after")],
    )


def test_two_processes_get_the_weights_of_each_update(tmp_path: Path) -> None:
    trained = trained_beside_it(tmp_path / "run", 2)
    assert trained.sampled_from_each_update, trained
    assert trained.ran == ("vLLM (colocate)", 2)
    assert trained.backends == ["vllm", "vllm"]


def test_it_gets_the_adapter_of_each_update_and_reads_the_merged_folder(tmp_path: Path) -> None:
    run, merged = tmp_path / "run", tmp_path / "merged"
    trained = trained_beside_it(run, 1, "--peft.r=8", "--trainer.learning_rate=0.01")
    assert trained.sampled_from_each_update, trained
    assert (trained.ran, trained.backends) == (("vLLM (colocate)", 1), ["vllm", "vllm"])
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
