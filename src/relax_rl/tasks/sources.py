"""Sources of the rows of a data set: a file, files by split, a folder, a folder saved by ``datasets``, or the Hub."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from relax_rl.errors import DataError
from relax_rl.tasks.files import DATA_SUFFIXES, file_rows, numbered
from relax_rl.tasks.images.tables import dataset_rows
from relax_rl.tasks.rows import Row

__all__ = ["Hub", "Parts", "SourceOfRows", "Whole", "source_of"]

Rows = Callable[[], Iterable[Row]]
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HELD_OUT = {"test", "validation", "valid", "val", "dev", "eval"}


class SourceOfRows(Protocol):
    """Rows by split, or of one table that a task divides."""

    @property
    def is_whole(self) -> bool:
        """There is one table, whatever the split."""
        ...

    @property
    def splits(self) -> tuple[str, ...] | None:
        """Names of all splits; None: not known before one is asked for."""
        ...

    def of(self, split: str) -> str:
        """The source of a split in words, to begin a sentence with."""
        ...

    def rows_of(self, split: str) -> Iterable[Row]:
        """The rows of a split, or of the whole table. Raises DataError for what cannot be read."""
        ...


@dataclass(frozen=True)
class Whole:
    """One table without splits, which a task divides."""

    words: str
    rows: Rows
    is_whole: bool = field(default=True, init=False)
    splits: tuple[str, ...] | None = field(default=("train", "test", "all"), init=False)

    def of(self, split: str) -> str:
        """See `SourceOfRows`."""
        return self.words

    def rows_of(self, split: str) -> Iterable[Row]:
        """See `SourceOfRows`."""
        return self.rows()


@dataclass(frozen=True)
class Parts:
    """A table a split."""

    words: Mapping[str, str]
    tables: Mapping[str, Rows]
    is_whole: bool = field(default=False, init=False)

    @property
    def splits(self) -> tuple[str, ...] | None:
        """See `SourceOfRows`."""
        return tuple(self.tables)

    def of(self, split: str) -> str:
        """See `SourceOfRows`."""
        return self.words[split]

    def rows_of(self, split: str) -> Iterable[Row]:
        """See `SourceOfRows`; the split must be one of `splits`."""
        return self.tables[split]()


@dataclass(frozen=True)
class Hub:
    """A dataset on the Hub, with its own splits; ``named`` maps our names of splits to its own, None: the same."""

    name: str
    config: str | None = None
    named: Mapping[str, str] | None = None
    is_guess: bool = False
    """The name was given where a path may stand, too."""
    is_whole: bool = field(default=False, init=False)

    @property
    def splits(self) -> tuple[str, ...] | None:
        """See `SourceOfRows`."""
        return None if self.named is None else tuple(self.named)

    def of(self, split: str) -> str:
        """See `SourceOfRows`."""
        return f"The dataset '{self.name}'"

    def rows_of(self, split: str) -> Iterator[Row]:
        """The rows of one split.

        Raises:
            DataError: there is no such dataset or split, or it is neither reachable nor in the local cache.
        """
        # Slow to import, and needed only here.
        from datasets import load_dataset

        own = split if self.named is None else self.named[split]
        try:
            rows: Any = load_dataset(self.name, self.config, split=own)
        except (OSError, ValueError) as error:  # unknown name or split, no network, not in the local cache
            offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"} else ""
            words = (str(error).splitlines() or [type(error).__name__])[0]
            no_file = f"There is no file or folder '{self.name}' here, and the" if self.is_guess else "The"
            raise DataError(
                f"{no_file} split '{own}' of the dataset '{self.name}' cannot be read from the Hugging Face "
                f"Hub{offline}: {words}; give a local file instead (a benchmark: the folder of its files, --data-dir), "
                "or load the dataset once while online."
            ) from error
        return numbered(dataset_rows(rows, self.name), self.name)


def source_of(path: str | Path | Mapping[str, str | Path]) -> SourceOfRows:
    """Source that a path names. Nothing of a file is read yet.

    Args:
        path: a file; a mapping of split to file; a folder saved by ``datasets``; a folder whose files are named by
            their splits (``train.jsonl``, ``data/test-00000-of-00002.parquet``); or, where nothing is there, the name
            of a dataset on the Hub. A ``*`` in the name of a file stands for any signs: its files are one table.

    Raises:
        DataError: a folder without data in it, or a pattern that no file fits.
    """
    if isinstance(path, Mapping):
        words = {split: f"The file '{file}'" for split, file in path.items()}
        return Parts(words, {split: _files(_matching(Path(file))) for split, file in path.items()})
    place = Path(path)
    if place.is_dir():
        return _folder(place)
    if not place.exists() and _HUB_NAME.fullmatch(str(path)) and place.suffix.lower() not in DATA_SUFFIXES:
        return Hub(str(path), is_guess=True)
    return Whole(f"The file '{path}'", _files(_matching(place)))


def _matching(path: Path) -> list[Path]:
    if "*" not in path.name or path.exists():
        return [path]
    found = sorted(path.parent.glob(path.name))
    if not found:
        raise DataError(f"No file fits the pattern '{path}'; name a file, or another pattern.")
    return found


def _files(paths: list[Path]) -> Rows:
    return lambda: itertools.chain.from_iterable(map(file_rows, paths))


def _folder(folder: Path) -> SourceOfRows:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved(folder)
    places = [*folder.iterdir(), *((folder / "data").iterdir() if (folder / "data").is_dir() else ())]
    found: dict[str, list[Path]] = {}
    for file in sorted(place for place in places if place.suffix.lower() in DATA_SUFFIXES and place.is_file()):
        found.setdefault(re.split(r"[-.]", file.name, maxsplit=1)[0], []).append(file)
    if not found:
        raise DataError(
            f"The folder '{folder}' cannot be read: Is a directory with no file of data in it "
            f"({', '.join(DATA_SUFFIXES)}), and none that `datasets` saved; name a file."
        )
    return _parts({split: _files(files) for split, files in found.items()}, folder)


def _saved(folder: Path) -> SourceOfRows:
    from datasets import DatasetDict, load_from_disk

    try:
        saved: Any = load_from_disk(str(folder))
    except Exception as error:  # whatever a damaged folder raises: OSError, ValueError, KeyError, of Arrow
        words = " ".join(str(error).split())
        raise DataError(f"The folder '{folder}' cannot be read as one that `datasets` saved: {words}.") from error
    tables: dict[str, Any] = {str(k): v for k, v in saved.items()} if isinstance(saved, DatasetDict) else {"": saved}
    return _parts({split: _table(rows, f"{folder}/{split}".rstrip("/")) for split, rows in tables.items()}, folder)


def _table(rows: Any, name: str) -> Rows:
    return lambda: numbered(dataset_rows(rows, name), name)


def _parts(tables: Mapping[str, Rows], folder: Path) -> SourceOfRows:
    """A folder of one split is one table to divide, unless the split is there to be held out."""
    if len(tables) == 1 and not set(tables) & _HELD_OUT:
        return Whole(f"The folder '{folder}'", next(iter(tables.values())))
    return Parts(dict.fromkeys(tables, f"The folder '{folder}'"), tables)
