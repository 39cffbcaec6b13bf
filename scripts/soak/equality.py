"""Whether two runs, or two evaluations, are the same: bit for bit, but for the times of the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["evaluation_differences", "half_lines", "run_differences"]

_CLOCK = {"step_time", "time/rollout", "time/reward", "time/dsd", "time/update", "train_runtime"}
_STATE = ("optimizer.pt", "scheduler.pt", "objective.json", "rng_state", "rank_")
"""Files of a checkpoint that hold a state, by the beginnings of their names."""


def run_differences(reference: Path, run: Path, *, every_checkpoint: bool = False) -> list[str]:
    """What differs between a whole run and another: weights and training state, rows, completions, evaluations.

    Args:
        every_checkpoint: of the reference, instead of its last one.
    """
    kept = sorted(reference.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    found = _rows(reference, run)
    for checkpoint in kept if every_checkpoint else kept[-1:]:
        found += _checkpoint(checkpoint, run / "checkpoints" / checkpoint.name)
    for folder in ("completions", "evaluations"):
        names = [{path.name for path in (place / folder).glob("*")} for place in (reference, run)]
        if names[0] != names[1]:
            found.append(f"{folder}: {sorted(names[0] ^ names[1])}")
        for name in sorted(names[0] & names[1]):
            if not _same(reference / folder / name, run / folder / name):
                found.append(f"{folder}/{name}")
    found += [f"left over: {path.relative_to(run)}" for path in half_written(run)]
    return found


def half_written(run: Path) -> list[Path]:
    """Temporary files, and checkpoints without a manifest."""
    hidden = [path for path in run.rglob(".*") if path.name != ".lock"]
    return hidden + [path for path in run.glob("checkpoints/checkpoint-*") if not (path / "manifest.json").is_file()]


def half_lines(run: Path) -> list[str]:
    """Files of lines that cannot be read to their end."""
    broken = []
    for path in sorted(run.rglob("*.jsonl")):
        try:
            for line in path.read_text("utf-8").splitlines():
                json.loads(line)
        except ValueError as error:
            broken.append(f"{path.relative_to(run)}: {error}")
    return broken


def evaluation_differences(reference: Path, folder: Path) -> list[str]:
    """Files of an evaluation that are not byte for byte the same."""
    names = ("samples.jsonl", "result.json")
    return [
        name
        for name in names
        if not (folder / name).is_file() or (reference / name).read_bytes() != (folder / name).read_bytes()
    ]


def _checkpoint(reference: Path, other: Path) -> list[str]:
    """What differs in a checkpoint of what a resumed run takes up."""
    if not (other / "model.safetensors").is_file():
        return [f"no {reference.name}"]
    different = _tensors_that_differ(reference / "model.safetensors", other / "model.safetensors")
    found = [f"{reference.name}: {len(different)} tensors, such as {different[0]}"] if different else []
    states = [path.name for path in sorted(reference.iterdir()) if path.name.startswith(_STATE)]
    return found + [
        f"{reference.name}/{name}"
        for name in states
        if not (other / name).is_file() or _state(reference / name) != _state(other / name)
    ]


def _state(path: Path) -> Any:
    if not path.name.startswith("rank_") or path.suffix != ".json":
        return path.read_bytes()
    state = json.loads(path.read_text("utf-8"))
    for clock in _CLOCK:
        state["table"]["metrics"]["table"].pop(clock, None)
    return state


def _tensors_that_differ(one: Path, two: Path) -> list[str]:
    import torch
    from safetensors.torch import load_file

    first, second = load_file(one), load_file(two)
    both = first.keys() & second.keys()
    return [*(first.keys() ^ second.keys()), *(name for name in both if not torch.equal(first[name], second[name]))]


def _rows(reference: Path, run: Path) -> list[str]:
    one, two = (_figures(place / "metrics.jsonl") for place in (reference, run))
    if [row["step"] for row in one] != [row["step"] for row in two]:
        return [f"rows of metrics: {[row['step'] for row in two]}"]
    return [f"metrics of update {a['step']}" for a, b in zip(one, two, strict=True) if a != b]


def _figures(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
    return [{key: value for key, value in row.items() if key not in _CLOCK} for row in rows]


def _same(one: Path, two: Path) -> bool:
    if one.suffix == ".safetensors":  # its header holds what it says about the tensors in any order
        return not _tensors_that_differ(one, two)
    if one.suffix != ".json":
        return one.read_bytes() == two.read_bytes()
    return json.loads(one.read_text("utf-8")) == json.loads(two.read_text("utf-8"))
