"""The task `figures` by name through training and evaluation of an image-text model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from support.families import build


@pytest.mark.slow
def test_a_model_of_random_weights_trains_and_is_measured_by_name(tmp_path: Path) -> None:
    """One update, and an evaluation of one question per kind in its variants; pictures and words are in one batch."""
    model, run, out = build("Idefics3", tmp_path / "model"), tmp_path / "run", tmp_path / "eval"
    task = ["--task", "figures", "--task.level", "1", "--task.forms", "shown,text"]
    small = [
        "--train-problems",
        "16",
        "--monitor",
        "false",
        "--evaluation.enabled",
        "false",
        "--trainer.max_steps",
        "1",
    ]
    sizes = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8}
    batch = [f"--trainer.{name}={value}" for name, value in sizes.items()]
    assert (
        main(["train", "--model", str(model), *task, "--objective", "grpo", *small, *batch, "--output", str(run)]) == 0
    )
    asked = ["-n", "40", "-k", "2", "--max-completion-length", "8", "--output", str(out)]
    assert main(["eval", str(run), *task, *asked]) == 0
    result = json.loads((out / "result.json").read_text())
    assert {"worst", "consistency"} <= set(result["breakdown"])
    assert {name for name in result["breakdown"] if name.startswith("mean@1 [kind=")} == {
        f"mean@1 [kind={kind}]" for kind in ("clock", "bars", "counting", "graph", "table")
    }
