"""The folder that runs from one start share: whole evaluations or none, whoever is first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from relax_rl.errors import RunError
from relax_rl.training.shared_start import SharedStart


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    """What a run has made of its evaluation before training."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "dictionary.safetensors").write_bytes(b"\x00\x01")
    (folder / "before.json").write_text("{}")
    return sorted(folder.iterdir())


def test_what_one_run_keeps_another_takes(tmp_path: Path, made: list[Path]) -> None:
    shared = tmp_path / "shared"
    start, other = SharedStart(shared, {"b": 1, "a": 2}), SharedStart(shared, {"a": 2, "b": 2})
    assert not start.take(tmp_path / "first")
    assert not (tmp_path / "first").exists()
    start.keep(made)
    assert json.loads((start.path / "identity.json").read_text()) == {"a": 2, "b": 1}
    assert SharedStart(shared, {"a": 2, "b": 1}).path == start.path != other.path
    assert start.take(tmp_path / "first")
    assert start.take(tmp_path / "first")
    assert files_in(tmp_path / "first") == {file.name: file.read_bytes() for file in made}
    assert not other.take(tmp_path / "other")
    # Another run was first: what is there stays, and nothing half is left beside it.
    (start.path / "before.json").write_text("first")
    start.keep(made)
    assert (start.path / "before.json").read_text() == "first"
    assert [entry.name for entry in shared.iterdir()] == [start.path.name]


def test_what_cannot_be_kept_or_taken_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = SharedStart(tmp_path / "shared", {})
    start.keep(made)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(RunError, match=r"cannot be taken over \(no space left\)"):
        start.take(tmp_path / "run")
    other = SharedStart(tmp_path / "shared", {"seed": 1})
    with pytest.raises(RunError, match=r"cannot be kept for the other runs .*no space left"):
        other.keep(made)
    assert [entry.name for entry in (tmp_path / "shared").iterdir()] == [start.path.name]
