"""A store of tensors, a row a latent trajectory: hidden states, or the statistics that stand for them.

    store.json                 what all rows share: format, kind, and what the writer says of them (model, sites, ...)
    shards/000003.safetensors  the tensors of some rows, named ``{place}/{name}``
    shards/000003.parquet      an index row for each: key, place, num_tokens, and the writer's own columns as JSON

The index is written after its shard, each as a temporary file that is renamed: a row is in the store once its index is.
A killed writer therefore loses at most the shard that it was writing, and what it leaves of that is written over by the
next. One process may write at a time; reading goes shard by shard and holds one row.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relax_rl.errors import DataError, RunError

__all__ = ["LatentStore", "StoreRow", "merge_stores"]

_FORMAT = "relax-rl latent store 1"
_SCHEMA = pa.schema([("key", pa.string()), ("place", pa.int32()), ("num_tokens", pa.int64()), ("columns", pa.string())])


@dataclass(frozen=True)
class StoreRow:
    """One trajectory.

    Attributes:
        key: unique in the store.
        tensors: by name, such as the site.
        num_tokens: T of the trajectory that they come from.
        columns: further data of the writer; plain JSON.
    """

    key: str
    tensors: Mapping[str, Tensor]
    num_tokens: int
    columns: Mapping[str, Any] = field(default_factory=dict)


class LatentStore:
    """Rows on disk, in the order in which they were written.

    Iterating reads one row at a time. `with` a store is how to write: rows given to :meth:`append` are gathered until a
    shard is full, and the rest is written at the end of the block unless an error ends it.

    Args:
        path: a folder that :meth:`create` made.

    Raises:
        DataError: no store there, or one whose index is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            about = json.loads((self.path / "store.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"There is no latent store in {self.path}: {error}; name a folder that has one.") from error
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise DataError(f"{self.path} is not a latent store of this version ({_FORMAT}); write it again.")
        self.about: dict[str, Any] = about["about"]
        self._lock: Any = None
        self._pending: list[StoreRow] = []
        self._pending_bytes = 0
        self._load_index()

    @classmethod
    def create(cls, path: str | Path, about: Mapping[str, Any], *, shard_bytes: int = 2**28) -> LatentStore:
        """The store in `path`, made if it is not there.

        Args:
            about: data that all rows share; plain JSON. A store that is there already must say the same.
            shard_bytes: a shard is closed when it holds this much.

        Raises:
            DataError: a store about something else; every key that differs is named.
            RunError: a folder that is something else, or cannot be written.
        """
        # Through JSON, so that tuples and lists compare equal with what the file will hold.
        path, about = Path(path), json.loads(json.dumps(about))
        if not (path / "store.json").is_file():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RunError(f"{path} is not empty and no latent store; choose another folder.")
            try:
                (path / "shards").mkdir(parents=True, exist_ok=True)
                _write_whole(path / "store.json", json.dumps({"format": _FORMAT, "about": about}, indent=1) + "\n")
            except OSError as error:
                raise RunError(f"cannot make the latent store {path}: {error}; choose another folder.") from error
        store = cls(path)
        different = [key for key in [*store.about, *about] if store.about.get(key) != about.get(key)]
        if different:
            named = ", ".join(
                f"{key} is {store.about.get(key)!r} there and {about.get(key)!r} here"
                for key in dict.fromkeys(different)
            )
            raise DataError(f"the latent store {path} holds something else: {named}; choose another folder.")
        store.shard_bytes = shard_bytes
        return store

    shard_bytes = 2**28

    @property
    def keys(self) -> set[str]:
        """Keys of the rows written, and of those that still wait for their shard."""
        return self._keys | {row.key for row in self._pending}

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in (self.path / "shards").iterdir() if not file.name.startswith("."))

    def __len__(self) -> int:
        """Rows written."""
        return len(self._keys)

    def __iter__(self) -> Iterator[StoreRow]:
        for shard in self._shards:
            yield from self._read_shard(shard)

    def __enter__(self) -> LatentStore:
        self._lock = (self.path / "store.json").open("rb")
        try:
            # Released by the kernel when the process ends, however it ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise RunError(f"another process is writing to {self.path}; wait for it, or choose another.") from error
        self._load_index()  # another writer may have been here since
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            # After an error nothing more is written: the rows that wait may be its cause.
            if kind is None:
                self.flush()
        finally:
            self._pending, self._pending_bytes = [], 0
            self._lock.close()
            self._lock = None

    def append(self, row: StoreRow) -> None:
        """Add a row, inside a `with` block; on disk once its shard is full, at :meth:`flush` or the end of the block.

        Raises:
            DataError: a key that is there already.
        """
        if self._lock is None:
            raise RunError(f"open the latent store {self.path} in a `with` block to write to it.")
        if row.key in self.keys:
            raise DataError(f"the latent store {self.path} has a row {row.key!r} already; keys are unique.")
        # Copies, since a view would keep its whole batch alive, and would not be written as it is.
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in row.tensors.items()}
        self._pending.append(StoreRow(row.key, tensors, row.num_tokens, row.columns))
        self._pending_bytes += sum(tensor.nbytes for tensor in tensors.values())
        if self._pending_bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a shard."""
        if not self._pending:
            return
        # After the largest number and not by their count: a damaged shard may have been removed.
        number = 1 + max((int(shard.stem) for shard in self._shards), default=-1)
        shard = self.path / "shards" / f"{number:06d}.safetensors"
        tensors = {f"{place}/{name}": t for place, row in enumerate(self._pending) for name, t in row.tensors.items()}
        index = pa.Table.from_pylist(
            [
                {
                    "key": row.key,
                    "place": place,
                    "num_tokens": row.num_tokens,
                    "columns": json.dumps(dict(row.columns), ensure_ascii=False, allow_nan=False),
                }
                for place, row in enumerate(self._pending)
            ],
            schema=_SCHEMA,
        )
        try:
            # The index last: a row is in the store once its index is, so a shard without one does not count.
            _rename_when_whole(shard, lambda file: save_file(tensors, file))
            _rename_when_whole(shard.with_suffix(".parquet"), lambda file: pq.write_table(index, file))
        except OSError as error:
            raise RunError(f"cannot write to the latent store {self.path}: {error}.") from error
        self._shards.append(shard)
        self._keys |= {row.key for row in self._pending}
        self._pending, self._pending_bytes = [], 0

    def _load_index(self) -> None:
        self._shards = sorted(file.with_suffix(".safetensors") for file in (self.path / "shards").glob("*.parquet"))
        self._keys: set[str] = set()
        for shard in self._shards:
            self._keys |= set(_read_index(shard).column("key").to_pylist())

    def _read_shard(self, shard: Path) -> Iterator[StoreRow]:
        rows = _read_index(shard).to_pylist()
        try:
            with safe_open(shard, framework="pt") as file:
                names: dict[str, list[str]] = {}
                for full in file.keys():  # noqa: SIM118 (a file, not a mapping)
                    names.setdefault(full.partition("/")[0], []).append(full)
                for row in rows:
                    tensors = {
                        full.partition("/")[2]: file.get_tensor(full) for full in names.get(str(row["place"]), ())
                    }
                    yield StoreRow(row["key"], tensors, row["num_tokens"], json.loads(row["columns"]))
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"the shard {shard} cannot be read ({error}); remove it with its index {shard.stem}.parquet, and write "
                "its rows again."
            ) from error


def merge_stores(sources: Iterable[str | Path], target: str | Path, *, shard_bytes: int = 2**28) -> LatentStore:
    """All rows of several stores in one, which is made if it is not there, and what else lies in their folders.

    Raises:
        DataError: stores about different things, one key in two of them, or a file beside the shards that differs.
    """
    stores = [LatentStore(source) for source in sources]
    if not stores:
        raise DataError("There is no latent store to merge; name at least one.")
    merged = LatentStore.create(target, stores[0].about, shard_bytes=shard_bytes)
    with merged:
        for store in stores:
            if store.about != merged.about:
                raise DataError(f"{store.path} and {stores[0].path} are about different things and cannot be merged.")
            _copy_rest(store.path, merged.path)
            for row in store:
                merged.append(row)
    return merged


def _copy_rest(source: Path, target: Path) -> None:
    """Files beside the shards that rows cannot be read without; the writer of the store puts them there."""
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        place = target / file.relative_to(source)
        if place.parent == target / "shards" or place == target / "store.json":
            continue
        if place.is_file() and not _hold_the_same(place, file):
            raise DataError(f"{file} and {place} differ, so the rows of their stores do not belong together.")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _hold_the_same(first: Path, second: Path) -> bool:
    if first.suffix != ".safetensors":
        return first.read_bytes() == second.read_bytes()
    # The order of the entries in such a file is anyone's.
    with safe_open(first, framework="pt") as one, safe_open(second, framework="pt") as other:
        names = set(one.keys())
        return (
            one.metadata() == other.metadata()
            and names == set(other.keys())
            and all(torch.equal(one.get_tensor(name), other.get_tensor(name)) for name in names)
        )


def _read_index(shard: Path) -> pa.Table:
    index = shard.with_suffix(".parquet")
    try:
        return pq.read_table(index, schema=_SCHEMA)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"the index {index} cannot be read ({error}); remove it, and write its rows again.") from error


def _rename_when_whole(path: Path, write: Any) -> None:
    # The name does not depend on the process: what a killed one left is written over, not gathered.
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            # On the disk before it has its name, or a crash could leave a whole name on an empty file.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_whole(path: Path, text: str) -> None:
    _rename_when_whole(path, lambda file: file.write_text(text, encoding="utf-8"))
