"""Which checkpoints are whole, which one a run is resumed from, and what rotation deletes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from relax_rl.errors import RunError
from relax_rl.runs.checkpoints import Checkpoint, checkpoints_in, choose, remove_leftovers, rotate
from relax_rl.runs.manifest import MANIFEST_FILE, Manifest, begin, discard, seal

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def write(folder: Path, step: int, *, sealed: bool = True, training: dict[str, object] | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    begin(path)
    for name in FILES:
        (path / name).write_bytes(f"{name} {step}".encode() * 50)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if sealed:
        seal(path, step, {"has_optimizer": True} if training is None else training, {})
    return path


def by_an_earlier_version(folder: Path, step: int) -> Path:
    path = write(folder, step)
    (path / MANIFEST_FILE).unlink()
    return path


def states(folder: Path) -> list[tuple[int, str]]:
    return [(one.step, one.state) for one in checkpoints_in(folder, digests=True)]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    **{f"{name} is missing": (lambda path, name=name: (path / name).unlink()) for name in FILES},
    **{f"{name} has": (lambda path, name=name: cut(path / name)) for name in FILES},
    **{f"{name} was changed": (lambda path, name=name: flip(path / name)) for name in FILES},
    "trainer_state.json was changed": lambda path: flip(path / "trainer_state.json"),
    "manifest.json cannot be read": lambda path: cut(path / MANIFEST_FILE),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(what: str, tmp_path: Path) -> None:
    write(tmp_path, 8)
    DAMAGE[what](write(tmp_path, 10))
    choice = choose(tmp_path, "run")
    assert choice.checkpoint.path.name == "checkpoint-8"
    (sentence,) = choice.notices()
    assert sentence.startswith("the run is resumed from checkpoint-8, because checkpoint-10 is damaged: ")
    assert what in sentence
    assert states(tmp_path) == [(10, "damaged"), (8, "whole")]


def test_a_renamed_checkpoint_is_not_of_another_update(tmp_path: Path) -> None:
    write(tmp_path, 8).rename(tmp_path / "checkpoint-6")
    with pytest.raises(RunError, match="checkpoint-6 is damaged: its manifest is of update 8"):
        choose(tmp_path, "run")


def test_where_none_is_whole_every_one_is_named(tmp_path: Path) -> None:
    flip(write(tmp_path, 2) / "optimizer.pt")
    write(tmp_path, 4, sealed=False)
    with pytest.raises(RunError, match=r"checkpoint-4 was never finished; checkpoint-2 is damaged: optimizer\.pt"):
        choose(tmp_path, "run")


def test_the_manifest_is_written_last_and_survives_a_copy(tmp_path: Path) -> None:
    path = write(tmp_path, 3, sealed=False)
    assert Checkpoint.inspect(path).state == "unfinished"
    seal(path, 3, {}, {})
    assert sorted(file.name for file in path.iterdir()) == sorted([*FILES, "trainer_state.json", MANIFEST_FILE])
    shutil.copytree(path, tmp_path / "elsewhere" / "checkpoint-3")
    found = Manifest.read(tmp_path / "elsewhere" / "checkpoint-3")
    assert found is not None
    assert found.versions["torch"]
    assert found.faults(tmp_path / "elsewhere" / "checkpoint-3") == []


def test_every_file_is_on_the_disk_before_the_manifest_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 3, sealed=False)
    order: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("synced"), sync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("renamed"), rename(*names))[1])
    seal(path, 3, {}, {})
    # 5 files, the manifest and the folder before; the names in both folders after.
    assert order.index("renamed") == 7
    assert len(order) == 10


def test_one_that_cannot_be_finished_is_removed(tmp_path: Path) -> None:
    whole = write(tmp_path, 2)
    discard(write(tmp_path, 4, sealed=False))
    discard(whole)
    assert states(tmp_path) == [(2, "whole")]


class TestWithoutAManifest:
    def test_it_is_taken_with_a_sentence_where_none_has_one(self, tmp_path: Path) -> None:
        by_an_earlier_version(tmp_path, 4)
        choice = choose(tmp_path, "run")
        assert choice.checkpoint.state == "unverified"
        assert "checkpoint-4 was written by a version of relax-rl that wrote no manifest" in choice.notices()[0]

    def test_a_whole_one_goes_before_it(self, tmp_path: Path) -> None:
        write(tmp_path, 2)
        by_an_earlier_version(tmp_path, 4)
        assert choose(tmp_path, "run").checkpoint.step == 2

    @pytest.mark.parametrize("name", FILES)
    def test_it_needs_all_the_files_that_a_resume_reads(self, name: str, tmp_path: Path) -> None:
        (by_an_earlier_version(tmp_path, 4) / name).unlink()
        with pytest.raises(RunError, match=r"checkpoint-4 (lacks|holds the model alone)"):
            choose(tmp_path, "run")


def test_the_model_alone_is_not_resumed(tmp_path: Path) -> None:
    write(tmp_path, 4, training={"has_optimizer": False})
    with pytest.raises(RunError, match=r"checkpoint-4 holds the model alone \(trainer\.save_only_model\)"):
        choose(tmp_path, "run")


class TestRotation:
    def test_the_newest_by_number_stay(self, tmp_path: Path) -> None:
        for step in (10, 9, 8, 100):  # in time, the last is 100, then 8
            write(tmp_path, step)
        rotate(tmp_path, 100, 2)
        assert [step for step, _ in states(tmp_path)] == [100, 10]

    def test_a_torn_one_never_costs_a_good_one(self, tmp_path: Path) -> None:
        for step in (2, 4):
            write(tmp_path, step)
        (write(tmp_path, 3) / "optimizer.pt").unlink()  # half deleted, and the newest in time
        write(tmp_path, 1, sealed=False)
        rotate(tmp_path, 4, 2)
        assert states(tmp_path) == [(4, "whole"), (2, "whole")]

    def test_what_comes_after_a_fallback_is_left_to_be_written_again(self, tmp_path: Path) -> None:
        flip(write(tmp_path, 10) / "optimizer.pt")
        for step in (8, 9):
            write(tmp_path, step)
        rotate(tmp_path, 9, 1)
        assert states(tmp_path) == [(10, "damaged"), (9, "whole")]

    def test_the_best_one_is_protected(self, tmp_path: Path) -> None:
        for step in (1, 2, 3, 4):
            write(tmp_path, step)
        rotate(tmp_path, 4, 2, tmp_path / "checkpoint-1")
        assert [step for step, _ in states(tmp_path)] == [4, 1]

    def test_no_limit(self, tmp_path: Path) -> None:
        write(tmp_path, 1)
        write(tmp_path, 2)
        rotate(tmp_path, 2, None)
        assert len(states(tmp_path)) == 2

    def test_a_deletion_that_is_cut_short_leaves_no_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in (1, 2):
            write(tmp_path, step)
        monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (Path(path) / "optimizer.pt").unlink())
        rotate(tmp_path, 2, 1)
        monkeypatch.undo()
        assert states(tmp_path) == [(2, "whole")]
        write(tmp_path, 3, sealed=False)
        remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
