"""The history: one JSON file a run of the suite, in benchmarks/history."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from frame.rows import Row

__all__ = ["FOLDER", "ROOT", "Result", "hardware", "histories", "regressions", "save", "versions"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "history"
PACKAGES = ("torch", "transformers", "trl", "numpy", "scipy", "math-verify", "pydmd")
TOLERANCE = 1.15
"""A ratio that grew by more than this is a regression."""


@dataclass(frozen=True)
class Result:
    """One run of the suite.

    Attributes:
        date: UTC, ISO 8601 to the minute.
        revision: of the code, short; with a plus sign where it had changes.
        is_quick: the five-minute subset.
        rows: of each benchmark.
        skipped: why a benchmark, or the rest of one, has no rows.
    """

    date: str
    revision: str
    is_quick: bool
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "date": self.date,
            "revision": self.revision,
            "is_quick": self.is_quick,
            "versions": dict(self.versions),
            "hardware": dict(self.hardware),
            "rows": {name: [row.as_json() for row in rows] for name, rows in self.rows.items()},
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Result:
        """What `as_json` wrote."""
        rows = {name: [Row.from_json(row) for row in rows] for name, rows in found["rows"].items()}
        return cls(**{**found, "rows": rows})

    @classmethod
    def now(cls, rows: Mapping[str, Sequence[Row]], skipped: Mapping[str, str], *, is_quick: bool) -> Result:
        """The rows, with the date, the code, the versions and the machine."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
        return cls(date, _revision(), is_quick, versions(), hardware(), rows, skipped)


def versions() -> dict[str, str]:
    """Python's, and those of the packages that decide how fast things are."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, and how busy the machine is. No names of machines."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=8", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no git"


def save(result: Result, folder: Path = FOLDER) -> Path:
    """Write a new file, whole or not at all; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = result.date.replace(":", "") + ("-quick" if result.is_quick else "")
    path = folder / f"{name}.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result.as_json(), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def histories(folder: Path = FOLDER) -> list[Result]:
    """All results, oldest first."""
    found = [Result.from_json(json.loads(path.read_text("utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda result: result.date)


def regressions(rows: Mapping[str, Iterable[Row]], before: Sequence[Result]) -> Iterator[str]:
    """One line for each row whose ratio is more than 15 % above its last one in the history."""
    known = {
        (name, row.key): (row, result) for result in before for name, found in result.rows.items() for row in found
    }
    for name, found in rows.items():
        for row in found:
            if (name, row.key) not in known:
                continue
            last, result = known[name, row.key]
            if row.ratio > TOLERANCE * last.ratio:
                yield (
                    f"{name}: {row.name}: {row.ratio:.3f} against {last.ratio:.3f} of {result.date} "
                    f"({100 * (row.ratio / last.ratio - 1):+.0f} %)"
                )
