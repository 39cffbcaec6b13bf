"""A revision: the tree of its code, the environment that runs it, and the folder of what it gave."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from side_by_side.dialect import SIGNAL_FOLDER
from side_by_side.words import Speller

__all__ = ["ROOT", "SCRIPTS", "Revision", "SideBySideError", "environment_with", "settings_digest"]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
CODE = ("src", "evidence", "pyproject.toml")
"""What decides the results of a tree."""
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "numpy")


class SideBySideError(Exception):
    """Something that the person at the screen can fix."""


@dataclass(frozen=True)
class Revision:
    """One of the two sides.

    Attributes:
        role: "reference" or "candidate".
        name: a commit hash, or the digest of the code of a folder with changes; results are kept under it.
        tree: the folder with its code, in the work folder.
        results: where its results are kept.
    """

    role: str
    name: str
    tree: Path
    results: Path
    _digest: str = field(repr=False)

    @classmethod
    def of(cls, text: str, role: str, work: Path) -> Revision:
        """A revision that git knows, or the code of a folder as it is now. Either is put into the work folder.

        A copy of the folder, so that you can go on editing while it runs.

        Raises:
            SideBySideError: it is neither.
        """
        folder = Path(text)
        if folder.is_dir():
            name = _clean_commit(folder.resolve()) or f"folder-{_digest_of(folder)}"
            tree = _copied(folder, work / "trees" / name)
        else:
            name = _git(ROOT, "rev-parse", "--verify", f"{text}^{{commit}}")
            tree = _unpacked(name, work / "trees" / name)
        if not (tree / "src/relax_rl").is_dir():
            raise SideBySideError(f"{text} holds no src/relax_rl; name a revision or a folder of this project.")
        return cls(role, name, tree, work / "results" / name, _digest_of(tree))

    def beside(self, other: Revision) -> Revision:
        """This revision, with results of its own where both are the same: it must run, not be compared to itself."""
        return self if self.name != other.name else replace(self, results=self.results.with_name(f"{self.name}-again"))

    @property
    def label(self) -> str:
        """The role and a short name."""
        return f"{self.role} {self.name[:15] if self.name.startswith('folder') else self.name[:8]}"

    def environment(self, *more: Path) -> dict[str, str]:
        """The environment of its processes: its own code first."""
        root = [self.tree] if (self.tree / SIGNAL_FOLDER).is_dir() else []
        return environment_with(self.tree / "src", *root, *more)

    def check(self) -> None:
        """Make sure that its own code runs: an editable install in the environment must not win.

        Raises:
            SideBySideError: other code is imported.
        """
        code = "import relax_rl; print(relax_rl.__file__)"
        place = _output([sys.executable, "-c", code], self.environment(), self.results)
        if not Path(place).resolve().is_relative_to(self.tree):
            raise SideBySideError(f"The code of {self.label} is in {self.tree}, but {place} is imported.")

    def probe(self, what: str, place: Path, methods: Sequence[str] = ()) -> None:
        """Run `side_by_side.probe` on its code. Raises SideBySideError when it fails."""
        words = [sys.executable, "-m", "side_by_side.probe", str(self.tree), what, str(place), *methods]
        _output(words, self.environment(SCRIPTS), self.results)

    @cached_property
    def methods(self) -> dict[str, dict[str, Any]]:
        """The methods: under which name the code knows each, and its settings."""
        file = self.results / f"methods-{self._digest}.json"
        if not file.is_file():
            self.probe("describe", file)
        return json.loads(file.read_text())

    @cached_property
    def entry(self) -> str:
        """The function behind the command line, as ``module:name``."""
        return tomllib.loads((self.tree / "pyproject.toml").read_text())["project"]["scripts"]["relax"]

    @cached_property
    def speller(self) -> Speller:
        """How its command line names the options."""
        module, _, function = self.entry.partition(":")
        words = [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]
        return Speller(lambda verb: _output([*words, verb, "--help"], self.environment(), self.results))


def environment_with(*paths: Path) -> dict[str, str]:
    """The environment of every process here: these folders on the path, one thread, no network."""
    fixed = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "COLUMNS": "120",
    }
    # Variables of a distributed run would have the code wait for other processes.
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONHOME")
    return {key: value for key, value in os.environ.items() if key not in dropped} | fixed


def settings_digest(settings: Any) -> str:
    """Digits that stand for settings and for the libraries that a result rests on."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    found = json.dumps([settings, versions, platform.python_version(), platform.machine()], sort_keys=True)
    return hashlib.sha256(found.encode()).hexdigest()[:12]


def _output(words: Sequence[str], environment: dict[str, str], folder: Path) -> str:
    # From an empty folder: the command line puts the current folder on the path.
    started = folder / "empty"
    started.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(words, env=environment, cwd=started, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideBySideError(f"{' '.join(words[:4])} ... failed:\n{done.stderr.strip()[-3000:]}")
    return done.stdout.strip()


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideBySideError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _clean_commit(tree: Path) -> str | None:
    """The commit of a folder whose code has no changes. None for others, and for what is no work tree of its own."""
    try:
        if Path(_git(tree, "rev-parse", "--show-toplevel")).resolve() != tree:
            return None
        if _git(tree, "status", "--porcelain", "--", *CODE):
            return None
        return _git(tree, "rev-parse", "HEAD")
    except SideBySideError:
        return None


def _unpacked(commit: str, tree: Path) -> Path:
    def unpack(place: Path) -> None:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(place, filter="data")

    return _made(tree, unpack)


def _copied(folder: Path, tree: Path) -> Path:
    def copy(place: Path) -> None:
        place.mkdir()
        for part in CODE:
            if (folder / part).is_dir():
                shutil.copytree(folder / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif (folder / part).is_file():
                shutil.copy2(folder / part, place / part)

    return _made(tree, copy)


def _made(tree: Path, make: Callable[[Path], None]) -> Path:
    """The folder, filled by `make` if it is not there yet: whole or not at all."""
    if tree.is_dir():
        return tree
    temporary = tree.with_name(f".{tree.name}.{os.getpid()}")
    make(temporary)
    try:
        temporary.rename(tree)
    except OSError:
        # Another comparison was faster.
        shutil.rmtree(temporary)
    return tree


def _digest_of(tree: Path) -> str:
    digest = hashlib.sha256()
    files = (path for part in CODE for path in ((tree / part).rglob("*") if (tree / part).is_dir() else [tree / part]))
    for path in sorted(files):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".csv", ".md"):
            digest.update(f"{path.relative_to(tree)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
