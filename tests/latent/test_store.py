"""What is written comes back; a writer that is killed at any moment leaves a store that is whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from relax_rl.errors import DataError, RunError
from relax_rl.latent import store as store_module
from relax_rl.latent.store import LatentStore, StoreRow, merge_stores

ABOUT = {"model": "tiny", "sites": ["embed", "final_norm_out"]}


def row(index: int, num_tokens: int = 5, dtype: torch.dtype = torch.float32) -> StoreRow:
    generator = torch.Generator().manual_seed(index)
    tensors = {site: torch.randn((num_tokens, 4), generator=generator).to(dtype) for site in ABOUT["sites"]}
    return StoreRow(f"prompt-{index}/0", tensors, num_tokens, {"prompt": f'what is "{index}" ∑?', "score": None})


def assert_same(first: StoreRow, second: StoreRow) -> None:
    assert (first.key, first.num_tokens, dict(first.columns)) == (second.key, second.num_tokens, dict(second.columns))
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert tensor.dtype == second.tensors[name].dtype
        assert torch.equal(tensor, second.tensors[name])


@pytest.mark.parametrize("shard_bytes", [1, 400, 2**28])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rows_come_back_in_order_whatever_the_shards(tmp_path: Path, shard_bytes: int, dtype: torch.dtype) -> None:
    rows = [row(index, 1 + index % 7, dtype) for index in range(12)]
    with LatentStore.create(tmp_path / "store", ABOUT, shard_bytes=shard_bytes) as store:
        for each in rows[:7]:
            store.append(each)
    with LatentStore.create(tmp_path / "store", ABOUT, shard_bytes=shard_bytes) as store:
        assert len(store) == 7
        for each in rows[7:]:
            store.append(each)
    read = LatentStore(tmp_path / "store")
    assert len(read) == 12
    assert read.keys == {each.key for each in rows}
    for found, expected in zip(read, rows, strict=True):
        assert_same(found, expected)


def test_a_view_of_a_batch_is_written_as_itself(tmp_path: Path) -> None:
    batch = torch.arange(24.0).view(2, 4, 3)
    with LatentStore.create(tmp_path, ABOUT) as store:
        store.append(StoreRow("a", {"x": batch[1, 1:3], "y": batch.mT[0]}, 2))
        batch.zero_()
    (found,) = LatentStore(tmp_path)
    assert torch.equal(found.tensors["x"], torch.arange(15.0, 21.0).view(2, 3))
    assert torch.equal(found.tensors["y"], torch.arange(12.0).view(4, 3).T)


def write_and_die(path: Path, moment: str, kill_at: int) -> NoReturn:
    """Write rows in a fork of this process, which kills itself at a call of the writer's."""
    calls = 0

    def dying(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                if moment != "rename":
                    action(*arguments, **options)
                    os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)  # half of it got to the disk
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*arguments, **options)

        return act

    places = {
        "shard": (store_module, "save_file"),
        "index": (store_module.pq, "write_table"),
        "rename": (os, "replace"),
    }
    owner, name = places[moment]
    setattr(owner, name, dying(getattr(owner, name)))
    try:
        write_rows(path)
    finally:
        os._exit(1)


def write_rows(path: Path) -> None:
    """Twenty rows, a shard each, of which those that are there already are not written again."""
    with LatentStore.create(path, {"model": "tiny"}, shard_bytes=64) as store:
        for index in range(20):
            if f"row-{index}" not in store.keys:
                store.append(StoreRow(f"row-{index}", {"x": torch.full((4, 4), float(index))}, 4))


@pytest.mark.parametrize(("moment", "kill_at"), [("shard", 3), ("index", 3), ("rename", 7)])
def test_a_killed_writer_loses_the_shard_it_was_writing_and_no_other(tmp_path: Path, moment: str, kill_at: int) -> None:
    """Killed with half of the third shard on disk, with half of its index, or between the two renames.

    The first rename is that of ``store.json``, so that the seventh puts the index of the third shard in its place.
    """
    if (writer := os.fork()) == 0:
        write_and_die(tmp_path / "store", moment, kill_at)
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
    store = LatentStore(tmp_path / "store")
    assert [float(found.tensors["x"][0, 0]) for found in store] == [0.0, 1.0]
    write_rows(tmp_path / "store")  # the next writer adds what is owed, and only that
    assert [float(found.tensors["x"][0, 0]) for found in LatentStore(tmp_path / "store")] == [*map(float, range(20))]
    assert not [file for file in (tmp_path / "store" / "shards").iterdir() if file.name.startswith(".")]


def test_an_error_in_the_block_writes_no_partial_shard(tmp_path: Path) -> None:
    store = LatentStore.create(tmp_path, ABOUT)

    def fail() -> None:
        with store:
            store.append(row(0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(LatentStore(tmp_path)) == 0


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with LatentStore.create(tmp_path, ABOUT) as store:
        with pytest.raises(RunError, match="another process is writing"), LatentStore(tmp_path):
            pass
        store.append(row(0))
    assert len(LatentStore(tmp_path)) == 1


def test_merging_keeps_every_row_once(tmp_path: Path) -> None:
    for name, indices in (("a", range(3)), ("b", range(3, 5))):
        with LatentStore.create(tmp_path / name, ABOUT, shard_bytes=1) as store:
            for index in indices:
                store.append(row(index))
    merged = merge_stores([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    for found, expected in zip(merged, map(row, range(5)), strict=True):
        assert_same(found, expected)
    with pytest.raises(DataError, match="has a row 'prompt-0/0' already"):
        merge_stores([tmp_path / "a"], tmp_path / "both")
    LatentStore.create(tmp_path / "other", {"model": "big"})
    with pytest.raises(DataError, match="different things"):
        merge_stores([tmp_path / "a", tmp_path / "other"], tmp_path / "neither")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no latent store in"):
        LatentStore(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and no latent store"):
        LatentStore.create(tmp_path, ABOUT)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="not empty and no latent store"):
        LatentStore.create(tmp_path / "file", ABOUT)
    LatentStore.create(tmp_path / "store", ABOUT)
    with pytest.raises(DataError, match=r"model is 'tiny' there and 'big' here"):
        LatentStore.create(tmp_path / "store", ABOUT | {"model": "big"})


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    with LatentStore.create(tmp_path, ABOUT) as store:
        store.append(row(0))
    shard = tmp_path / "shards" / "000000.safetensors"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(DataError, match=r"000000\.safetensors cannot be read"):
        list(LatentStore(tmp_path))
    shard.with_suffix(".parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"000000\.parquet cannot be read"):
        LatentStore(tmp_path)


def test_writing_needs_a_block_and_new_keys(tmp_path: Path) -> None:
    store = LatentStore.create(tmp_path, ABOUT)
    with pytest.raises(RunError, match="`with` block"):
        store.append(row(0))
    with store:
        store.append(row(0))
        with pytest.raises(DataError, match="keys are unique"):
            store.append(row(0))
