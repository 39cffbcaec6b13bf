"""The minor version of TRL before the newest: the numbers of the newest, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.launching import ENVIRONMENT, ROOT, launched

KEPT = Path(os.environ.get("RELAX_ENVIRONMENTS", str(ROOT / ".environments")))
LOCK = hashlib.sha256((ROOT / "requirements-trl-previous.lock").read_bytes()).hexdigest()
PREVIOUS = (ROOT / KEPT / f"trl-previous-{LOCK[:12]}").absolute()
# This version has its head in Triton alone, whose interpreter needs no GPU.
WITH_PREVIOUS = ENVIRONMENT | {
    "PYTHONPATH": os.pathsep.join([str(PREVIOUS), ENVIRONMENT["PYTHONPATH"]]),
    "TRITON_INTERPRET": "1",
}
# With the default epsilon, Adam would blow up the last bits of the smallest gradients.
SETTINGS = (
    *("--model=tiny", "--trainer.num_generations=8", "--trainer.max_completion_length=20"),
    *("--trainer.per_device_train_batch_size=8", "--trainer.gradient_accumulation_steps=2"),
    *("--trainer.max_steps=3", "--trainer.save_steps=2", "--trainer.adam_epsilon=0.01", "--trainer.learning_rate=0.01"),
    "--evaluation.enabled=false",
)
METHODS = {
    "grpo": ("--objective.name=grpo", "--objective.beta=0.05", "--monitor=false"),
    "relax": ("--dictionary.steps=5", "--dictionary.num_observables=4", "--objective.xi=quantile:0.5"),
}


def run(*words: str, environment: dict[str, str] = ENVIRONMENT, killed: bool = False) -> Any:
    script = str(ROOT / "tests/support/strategy_ranks.py")
    environment = environment | {"KILL_IN_UPDATE": "3" if killed else "0"}
    return launched([script, "train", *words], 1, environment=environment, check=not killed)


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (PREVIOUS / ".installed").is_file(), reason="the previous TRL is not installed; 'make trl-previous' does so"
)
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_as_the_newest_does(method: str, tmp_path: Path) -> None:
    words = ("countdown", *SETTINGS, *METHODS[method])
    newest, previous = tmp_path / "newest", tmp_path / "previous"
    run(*words, "--output", str(newest))
    assert run(*words, "--output", str(previous), environment=WITH_PREVIOUS, killed=True).returncode != 0
    run("--resume", "--output", str(previous), environment=WITH_PREVIOUS)

    assert [start["versions"]["trl"] for start in rows(previous / "starts.jsonl")] == ["1.15.0", "1.15.0"]
    assert rows(newest / "starts.jsonl")[0]["versions"]["trl"] != "1.15.0"
    weights = [load_file(path / "checkpoints/checkpoint-3/model.safetensors") for path in (newest, previous)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-6, rtol=0.0, msg=name)
    theirs, ours = (rows(path / "metrics.jsonl") for path in (newest, previous))
    assert [row["step"] for row in ours] == [1, 2, 3]
    for one, other in zip(ours, theirs, strict=True):
        assert other["grad_norm"] > 0
        measured = {key for key in other if "time" not in key}
        assert {key: one[key] for key in measured} == pytest.approx(
            {key: other[key] for key in measured}, rel=1e-4, abs=1e-6
        )
    for file in sorted((newest / "completions").iterdir()):
        sampled = [[row["completion"] for row in rows(path / "completions" / file.name)] for path in (newest, previous)]
        assert sampled[0] == sampled[1]
