"""Snapshots while a policy trains: where they are written, and that they change nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.comparison.records import read_runs
from relax_rl.runs import RunDirectory
from relax_rl.training import snapshots
from relax_rl.training.snapshots import SnapshotsOfTraining, snapshot_rows
from relax_rl.workflows.train import train

SETTINGS: dict[str, Any] = {
    "trainer.max_steps": 3,
    "trainer.save_steps": 2,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 40,
    "dictionary.num_observables": 4,
    "evaluation.enabled": False,
}


class Words:
    """Decodes each token as its number."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(map(str, ids))


def batch(rows: list[int]) -> dict[str, Any]:
    """A micro-batch whose prompts are padded on the left; the completion of row 3 is masked."""
    size = len(rows)
    mask = torch.ones(size, 2)
    mask[[place for place, row in enumerate(rows) if row == 3]] = 0
    return {
        "prompt_ids": torch.tensor([[0, 9, 10 + row // 2] for row in rows]),
        "prompt_mask": torch.tensor([[0, 1, 1]] * size),
        "completion_ids": torch.tensor([[100 + row, 7] for row in rows]),
        "completion_mask": mask,
        "row": torch.tensor(rows),
        "rewards": torch.tensor([float(row) for row in rows]),
    }


def test_rows_are_whole_groups_without_padding() -> None:
    rows = snapshot_rows([batch([2, 3]), batch([0, 1])], 2, Words())
    assert [(row.group, row.prompt, row.completion, row.reward) for row in rows] == [
        (1, [9, 11], [102, 7], 2.0),
        (0, [9, 10], [100, 7], 0.0),
        (0, [9, 10], [101, 7], 1.0),
    ]
    assert [row.text for row in rows] == ["9 11", "9 10", "9 10"]
    assert snapshot_rows([batch([0, 1]) | {"looks": []}], 2, Words()) == []
    assert snapshot_rows([], 2, Words()) == []


def test_at_most_64_completions() -> None:
    rows = snapshot_rows([batch([row]) for row in range(200, 300)], 40, Words())
    assert {row.group for row in rows} == {5}


def test_a_snapshot_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    trainer: Any = SimpleNamespace(
        forwards_in_step=False,
        last_rollout=[batch([0, 1])],
        num_generations=2,
        text_tokenizer=Words(),
        notices=said.append,
        accelerator=SimpleNamespace(device="cpu", distributed_type=None, state=None),
    )
    callback = SnapshotsOfTraining(trainer, RunDirectory(tmp_path), "float32", tmp_path / "nothing")
    monkeypatch.setattr(callback, "_dictionary", lambda: torch.nn.Identity())

    def full(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(callback, "_write", full)
    for step in (5, 10):
        callback.on_save(None, SimpleNamespace(is_world_process_zero=True, global_step=step), None)  # type: ignore[arg-type]
    assert len(said) == 1
    assert "after update 5 (RuntimeError: out of memory)" in said[0]


@pytest.mark.slow
def test_a_run_leaves_snapshots_and_is_the_same_run_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("countdown", overrides=SETTINGS | {"output": str(tmp_path / "with")})
    monkeypatch.setattr(snapshots.SnapshotsOfTraining, "_take", lambda *_: None)
    train("countdown", overrides=SETTINGS | {"output": str(tmp_path / "without")})
    found, plain = (RunDirectory(tmp_path / name) for name in ("with", "without"))
    assert [*found.snapshots()] == [1, 2, 3]
    assert [*plain.snapshots()] == []
    (run,) = read_runs([found.path])
    for snapshot in run.snapshots:
        assert snapshot.num_completions == 8
        assert snapshot.spectrum is not None
        assert len(snapshot.completions) == 4
        assert snapshot.prompt
    rows = [
        [{k: v for k, v in row.items() if not k.startswith(("step_time", "time/"))} for row in each.read_metrics()]
        for each in (found, plain)
    ]
    assert rows[0] == rows[1]
    for row in found.read_metrics():
        parts = [row[f"time/{part}"] for part in ("rollout", "reward", "dsd", "update")]
        assert sum(parts) == pytest.approx(row["step_time"], rel=0.01)
        assert min(parts) > 0
