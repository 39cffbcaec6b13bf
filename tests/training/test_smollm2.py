"""A real pretrained model through the command line: SmolLM2-135M-Instruct takes optimiser steps on real problems."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from relax_rl.koopman import KoopmanDictionary

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "smollm2"
DATA = ROOT / ".." / "shared" / "data"
GROUP = 4
PROMPTS = 2
OBSERVABLES = 8
MAX_TOKENS = 32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not (MODEL / "model.safetensors").is_file(), reason="run make smollm2"),
    pytest.mark.skipif(not DATA.is_dir(), reason="the problems are not at ../shared/data"),
]

SETTINGS = {
    "model": "smollm2",
    "train_problems": 16,
    "objective": "relax",
    # So few and so short completions all score 0, which leaves no advantage to shape by: without shaping, the
    # dispersion of every completion pulls on the weights.
    "objective.advantage_shaping": "none",
    "objective.xi": "quantile:0.9",
    "dictionary.num_observables": OBSERVABLES,
    "dictionary.steps": 20,
    "trainer.num_generations": GROUP,
    "trainer.per_device_train_batch_size": GROUP * PROMPTS,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.activation_checkpointing": False,
    "trainer.save_only_model": True,
    "evaluation.enabled": False,
}


def train(run: Path, settings: dict[str, Any]) -> None:
    """One run of the command, from the folder in which ``smollm2`` is looked up; fails with what it printed."""
    given = SETTINGS | settings | {"output": run}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value).replace("False", "false"))]
    command = [sys.executable, "-m", "relax_rl.cli.main", "train", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:  # not splitlines: texts hold line separators of Unicode
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two updates."""
    run = tmp_path_factory.mktemp("gsm8k") / "run"
    options = {"task": "gsm8k", "task.data_dir": DATA, "trainer.max_completion_length": MAX_TOKENS}
    train(run, options | {"trainer.max_steps": 2, "trainer.save_steps": 2})
    return run


def test_every_update_is_finite_and_measures_the_dynamics(gsm8k: Path) -> None:
    metrics = rows(gsm8k / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2]
    for row in metrics:
        assert all(math.isfinite(row[name]) for name in ("loss", "grad_norm", "entropy", "reward", "kl")), row
        assert row["grad_norm"] > 0
        # Half of a Bernoulli's spread at most, as every modulus lies in [0, 1] or little above.
        assert 0 < row["latent/dsd"] < 0.5
        assert row["latent/dsd_defined"] == 1.0


def test_the_checkpoint_is_a_hugging_face_model_that_has_learned(gsm8k: Path) -> None:
    checkpoint = gsm8k / "checkpoints" / "checkpoint-2"
    trained = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    started = AutoModelForCausalLM.from_pretrained(MODEL).state_dict()
    assert trained.keys() == started.keys()
    moved = {name: (trained[name] - started[name]).abs().max().item() for name in started}
    # Two Adam steps of 1e-6 move no weight by much more than 2e-6, and every matrix by something.
    assert 0 < max(moved.values()) < 1e-5
    assert all(moved[name] > 0 for name, weight in started.items() if weight.dim() == 2)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(MODEL).chat_template


def test_the_dictionary_travels_with_the_checkpoint(gsm8k: Path) -> None:
    checkpoint = gsm8k / "checkpoints" / "checkpoint-2"
    state = json.loads((checkpoint / "objective.json").read_text())
    dictionary = KoopmanDictionary.load(checkpoint / "dictionary.safetensors")
    assert dictionary.digest == state["dictionary_digest"]
    assert dictionary(torch.zeros(1, 576)).shape == (1, OBSERVABLES)
    with safe_open(checkpoint / "dictionary.safetensors", "pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118


def test_every_completion_is_on_disk_with_its_score(gsm8k: Path) -> None:
    problems = {row["id"]: row["answer"] for row in rows(DATA / "gsm8k_train.jsonl")[:16]}
    for step in (1, 2):
        completions = rows(gsm8k / "completions" / f"step_{step:06d}.jsonl")
        assert len(completions) == PROMPTS * GROUP
        assert len({row["completion"] for row in completions}) > PROMPTS
        for start in range(0, len(completions), GROUP):
            assert len({row["problem_id"] for row in completions[start : start + GROUP]}) == 1
        for row in completions:
            assert row["scores"] == {"math": row["reward"]}
            assert row["reward"] in (0.0, 1.0)
            assert row["answer"] == problems[row["problem_id"]]
            assert 0 < row["num_tokens"] <= MAX_TOKENS
            assert row["dsd"] > 0


def test_a_file_of_problems_and_a_run_without_a_reference_model(tmp_path: Path) -> None:
    options = {"task": "math", "task.path": DATA / "math500.jsonl", "objective.beta": 0}
    short = {"trainer.max_completion_length": 16, "trainer.max_steps": 1}
    train(tmp_path / "run", options | short)
    (metrics,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert math.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    completions = rows(tmp_path / "run" / "completions" / "step_000001.jsonl")
    known = {row["id"]: row["answer"] for row in rows(DATA / "math500.jsonl")}
    assert all(known[row["problem_id"]] == row["answer"] for row in completions)
