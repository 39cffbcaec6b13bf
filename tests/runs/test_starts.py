"""What ran is noted at each start, and told by the doctor and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.runs import RunDirectory
from relax_rl.runs.manifest import installed_versions
from relax_rl.workflows.train import train

SMALL: dict[str, Any] = {
    "task": "countdown",
    "objective": {"name": "grpo"},
    "evaluation": {"enabled": False},
    "dictionary": {"num_observables": 2},
    "trainer": {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 8,
        "max_steps": 2,
        "save_steps": 1,
    },
}


@pytest.mark.slow
def test_each_start_of_a_run_says_what_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train(SMALL | {"output": str(folder)})
    (folder / "checkpoints/checkpoint-2/optimizer.pt").unlink()
    train(overrides={"output": str(folder)}, resume=True)
    first, second = RunDirectory.open(folder).read_starts()
    assert (first.pop("update"), second.pop("update")) == (0, 1)
    assert first == second
    assert first["versions"].items() >= installed_versions().items()
    words = "one process; float32; attention sdpa; rollouts by relax; CPU ("
    assert main(["doctor", str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"started    from update 0: {words}" in told
    assert f"started    from update 1: {words}" in told
    assert main(["report", str(folder)]) == 0
    assert words in (folder / "report.html").read_text()


def test_bfloat16_and_the_other_engine_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(SMALL | {"output": str(folder), "dtype": "mixed", "sampling": {"engine": "generate"}})
    (start,) = RunDirectory.open(folder).read_starts()
    assert start["precision"] == "float32, computed in bfloat16"
    assert start["rollouts"] == "generate"
