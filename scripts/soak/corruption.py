"""What may have happened to a run on a disk: each ends in a refusal, or in a run equal to the uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from soak.equality import run_differences
from soak.launch import run
from soak.records import Outcome

__all__ = ["DAMAGES", "survives_damage"]

Damage = Callable[[Path, Path], None]
"""Done to (the run, its newest checkpoint)."""


def survives_damage(name: str, stopped: Path, reference: Path, folder: Path) -> Outcome:
    """A copy of a stopped run, damaged and resumed."""
    place = folder / name.replace(" ", "-").replace("/", "-")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(stopped, place)
    newest = max(place.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    DAMAGES[name](place, newest)
    ended = run(["train", "--resume", "--output", place.name], folder, folder / f"{place.name}.log")
    if ended.error:
        return Outcome("damage", name, "refused", ended.error)
    if ended.code != 0:
        return Outcome("damage", name, "WRONG", f"exit code {ended.code}: {ended.last_line}")
    found = run_differences(reference, place)
    return Outcome("damage", name, "WRONG" if found else "equal", "; ".join(found) or _notice(ended.output))


def _notice(output: str) -> str:
    return next((line for line in output.splitlines() if "checkpoint-" in line), "")


def _missing(name: str) -> Damage:
    return lambda run, newest: (newest / name).unlink()


def _truncated(name: str) -> Damage:
    return lambda run, newest: os.truncate(newest / name, (newest / name).stat().st_size // 2)


def _emptied(name: str) -> Damage:
    return lambda run, newest: os.truncate(newest / name, 0)


def _flipped(name: str) -> Damage:
    def damage(run: Path, newest: Path) -> None:
        path = newest / name
        data = bytearray(path.read_bytes())
        data[len(data) * 3 // 4] ^= 1
        path.write_bytes(data)

    return damage


def _edited_step(run: Path, newest: Path) -> None:
    path = newest / "trainer_state.json"
    state = json.loads(path.read_text())
    state["global_step"] -= 2
    path.write_text(json.dumps(state))


def _renamed(run: Path, newest: Path) -> None:
    newest.rename(newest.with_name("checkpoint-7"))


def _lost_rows(run: Path, newest: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def _no_metrics(run: Path, newest: Path) -> None:
    (run / "metrics.jsonl").unlink()


def _edited_learning_rate(run: Path, newest: Path) -> None:
    path = run / "config.json"
    settings = json.loads(path.read_text())
    settings["trainer"]["learning_rate"] *= 2
    path.write_text(json.dumps(settings))


def _no_dictionary(run: Path, newest: Path) -> None:
    (run / "evaluations" / "dictionary.safetensors").unlink()


def _all_damaged(run: Path, newest: Path) -> None:
    for checkpoint in run.glob("checkpoints/checkpoint-*"):
        os.truncate(checkpoint / "optimizer.pt", 100)


_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "manifest.json")

DAMAGES: dict[str, Damage] = {
    **{f"{name} missing": _missing(name) for name in (*_FILES, "config.json", "objective.json")},
    **{f"{name} truncated": _truncated(name) for name in (*_FILES, "objective.json")},
    **{f"{name} empty": _emptied(name) for name in _FILES},
    **{f"{name} with a flipped bit": _flipped(name) for name in _FILES},
    "step edited in trainer_state.json": _edited_step,
    "checkpoint renamed": _renamed,
    "rows of metrics lost": _lost_rows,
    "no metrics.jsonl": _no_metrics,
    "learning rate edited in the run's config.json": _edited_learning_rate,
    "evaluations/dictionary.safetensors missing": _no_dictionary,
    "every checkpoint damaged": _all_damaged,
    "copied to another folder": lambda run, newest: None,  # as every run here is
}
