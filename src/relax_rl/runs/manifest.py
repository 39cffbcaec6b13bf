"""Manifest of a checkpoint: its files byte for byte, and the versions that wrote it. Only a whole checkpoint has one.

A checkpoint is begun with the manifest's temporary file in it. A folder that still has it was never finished; one with
neither was written by a version of the package that had no manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from relax_rl.runs.files import sync
from relax_rl.version import __version__

__all__ = [
    "MANIFEST_FILE",
    "FileRecord",
    "Manifest",
    "begin",
    "digest_of",
    "installed_versions",
    "is_unfinished",
    "seal",
]

MANIFEST_FILE = "manifest.json"
_UNFINISHED_FILE = f"{MANIFEST_FILE}.part"
_PACKAGES = ("torch", "transformers", "trl", "accelerate")
_HASHED_AT_ONCE = 4


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 digest of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of a checkpoint, and the state that a resume must find again.

    Attributes:
        step: updates done.
        versions: versions of the packages that computed it.
        training: state of the trainer: processes, batch, place in the prompts, digest of the data.
        run: state of the run directory: settings, rows of metrics, digests of evaluations; empty outside of one.
        files: by path in the checkpoint.
    """

    step: int
    versions: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a checkpoint; None where there is none. Raises ValueError for one that cannot be read."""
        try:
            found = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
            files = {str(name): FileRecord(**record) for name, record in found["files"].items()}
            return cls(int(found["step"]), found["versions"], found["training"], found["run"], files)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{MANIFEST_FILE} cannot be read ({error})") from error

    def faults(self, folder: Path, *, digests: bool = True) -> list[str]:
        """In words, each file of a checkpoint that is not as it was written.

        Args:
            folder: folder of the checkpoint.
            digests: False looks at sizes alone, which finds what was cut off.
        """
        found: list[str] = []
        if folder.name != f"checkpoint-{self.step}":
            found.append(f"its manifest is of update {self.step}")
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif (size := path.stat().st_size) != record.size:
                found.append(f"{name} has {size:,} bytes instead of {record.size:,}")
        if digests and not found:
            now = _digests(folder, list(self.files))
            found += [f"{name} was changed" for name, record in self.files.items() if now[name] != record.sha256]
        return found


def installed_versions(also: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the packages that decide what a run computes, and of others."""
    versions = {"relax-rl": __version__}
    for name in (*_PACKAGES, *also):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def begin(folder: Path) -> None:
    """Make the folder of a checkpoint that is to be written, in place of what is there under its name."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _UNFINISHED_FILE).touch()


def discard(folder: Path) -> None:
    """Remove a checkpoint that could not be finished, as far as it can be."""
    if is_unfinished(folder):
        shutil.rmtree(folder, ignore_errors=True)


def is_unfinished(folder: Path) -> bool:
    """Whether a checkpoint was begun and not sealed."""
    return (folder / _UNFINISHED_FILE).exists()


def seal(folder: Path, step: int, training: Mapping[str, Any], run: Mapping[str, Any]) -> Manifest:
    """Write the manifest of a checkpoint whose files are all there, once they are on the disk.

    Args:
        folder: folder of the checkpoint; what `begin` began.
        step, training, run: see `Manifest`.
    """
    unfinished = folder / _UNFINISHED_FILE
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != unfinished)
    names = [path.relative_to(folder).as_posix() for path in paths]
    for path in paths:
        sync(path)
    digests = _digests(folder, names)
    files = {name: FileRecord((folder / name).stat().st_size, digests[name]) for name in names}
    manifest = Manifest(step, installed_versions(), training, run, files)
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync(inner)
    os.replace(unfinished, folder / MANIFEST_FILE)
    sync(folder)
    sync(folder.parent)
    return manifest


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    # hashlib lets go of the interpreter, so files are read side by side.
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        return dict(zip(names, pool.map(lambda name: digest_of(folder / name), names), strict=True))
