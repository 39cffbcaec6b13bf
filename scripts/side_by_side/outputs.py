"""What a command leaves behind, as values by name. Times, digests of code and the words of the command are left out."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from side_by_side.differences import flattened

__all__ = ["counts_in", "prune", "values_in"]

_CLOCK = ("step_time", "time/rollout", "time/reward", "time/dsd", "time/update", "seconds")
LEFT_OUT = frozenset({*_CLOCK, "grader", "command"})
"""Keys of any table: times, the digest of the grader's code, the words that started it."""

KINDS = {
    "metrics.jsonl": "updates",
    "step_*.jsonl": "completions",
    "before.json": "evaluations",
    "after.json": "evaluations",
    "result.json": "evaluations",
    "samples.jsonl": "samples",
    "methods.csv": "method rows",
    "runs.csv": "run rows",
    "problems.csv": "problem rows",
    "spectrum.json": "spectrum files",
    "eigenvalues.csv": "eigenvalues",
    "trajectories.csv": "trajectory rows",
    "objective.json": "objective states",
    "weights.json": "weight digests",
}
"""Files that are compared, by name, and what their entries are. What says most about a difference comes first."""

WEIGHTS_FILE = "weights.json"


def values_in(folder: Path) -> dict[str, Any]:
    """All values of the compared files below a folder, by file, entry and key."""
    found: dict[str, Any] = {}
    for path, _ in _files(folder):
        for name, entry in _entries(path):
            place = f"{path.relative_to(folder)} {name}".strip()
            found |= {f"{place} {key}": value for key, value in flattened(_without(entry)).items()}
    return found


def counts_in(folder: Path) -> str:
    """How many entries of which kind there are."""
    counts: Counter[str] = Counter()
    for path, kind in _files(folder):
        counts[kind] += sum(1 for _ in _entries(path))
    return ", ".join(f"{number} {kind if number > 1 else kind[:-1]}" for kind, number in counts.items())


def prune(folder: Path, kept: int | None = None) -> None:
    """Remove checkpoints below a folder, all but `kept`. The objective's state and a digest of the weights stay."""
    for checkpoint in sorted(folder.rglob("checkpoint-*")):
        digests = {path.name: _digest(path) for path in sorted(checkpoint.glob("*.safetensors"))}
        (checkpoint / WEIGHTS_FILE).write_text(json.dumps(digests))
        if checkpoint.name == f"checkpoint-{kept}":
            continue
        for path in checkpoint.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (WEIGHTS_FILE, "objective.json"):
                path.unlink()


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    for pattern, kind in KINDS.items():
        yield from ((path, kind) for path in sorted(folder.rglob(pattern)))


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        yield "", json.loads(text)
    elif path.suffix == ".jsonl":
        yield from ((f"row {place}", json.loads(line)) for place, line in enumerate(text.splitlines(), start=1))
    else:
        yield from ((f"row {place}", row) for place, row in enumerate(csv.DictReader(text.splitlines()), start=1))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in LEFT_OUT}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def _digest(path: Path) -> str:
    """Of the tensors in a safetensors file. Its header lists them, and what is said about them, in a random order."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True)
    return hashlib.sha256(header.encode() + data[start:]).hexdigest()[:16]
