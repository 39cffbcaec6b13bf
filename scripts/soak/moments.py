"""Kills and signals at random moments, over several passes, and each time the command that goes on."""

from __future__ import annotations

import random
import shlex
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from soak.equality import half_lines, run_differences
from soak.launch import Ended, Fork, run
from soak.records import Outcome

__all__ = ["resumed", "survives_moments"]

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_MOST_FAULTS = 9

Moment = Callable[[], bool]


def survives_moments(name: str, config: Path, reference: Path, folder: Path, seed: int) -> Outcome:
    """A run that is hit again and again, and ends equal to the one that was not."""
    rng, faults = random.Random(seed), Counter[str]()
    place, start = folder / name, ["train", str(config), "--output", name]
    shutil.rmtree(place, ignore_errors=True)
    words = start
    for attempt in range(_MOST_FAULTS + 1):
        fork = Fork(words, folder, folder / f"{name}.log")
        if attempt < _MOST_FAULTS:
            number, moment = rng.choice(SIGNALS), _moment(rng, place)
            while fork.is_running() and not moment():
                time.sleep(0.002)
            if fork.is_running():
                fork.send(number)
                faults[number.name] += 1
                if number != signal.SIGKILL and rng.random() < 0.2:
                    time.sleep(0.45)
                    fork.send(number)  # the second one stops at once
        ended = fork.wait()
        if ended.code == 0:
            break
        wrong = _wrong_end(ended)
        if wrong or half_lines_of_others(place):
            return Outcome("moments", name, "WRONG", wrong or str(half_lines_of_others(place)), dict(faults))
        words = _next(ended, name, start, folder)
    found = run_differences(reference, place)
    return Outcome("moments", name, "WRONG" if found else "equal", "; ".join(found), dict(faults))


def resumed(name: str, start: list[str], folder: Path) -> Ended:
    """The run as its user would have it go on: from a checkpoint, or from the start where there is none."""
    ended = run(["train", "--resume", "--output", name], folder, folder / f"{name}.log")
    if "--overwrite" in ended.error:
        return run([*start, "--overwrite"], folder, folder / f"{name}.log")
    if "there is no run in" in ended.error:
        return run(start, folder, folder / f"{name}.log")
    return ended


def half_lines_of_others(place: Path) -> list[str]:
    """Half lines where none may be: a row of metrics that was being written is known, and cut off."""
    return [line for line in half_lines(place) if not line.startswith("metrics.jsonl")]


def _moment(rng: random.Random, place: Path) -> Moment:
    """At some time after the start, after the next rows, or while a checkpoint is written."""
    kind = rng.randrange(3)
    if kind == 0:
        return _after(rng.uniform(0.0, 3.0))
    metrics, checkpoints = place / "metrics.jsonl", place / "checkpoints"
    if kind == 1:
        wanted, pause = _rows(metrics) + rng.randint(1, 4), rng.uniform(0.0, 0.5)
        return _once(lambda: _rows(metrics) >= wanted, pause)
    there = set(checkpoints.glob("checkpoint-*/*"))
    part = rng.choice(["*", "model.safetensors", "optimizer.pt", "manifest.json"])
    return _once(lambda: bool(set(checkpoints.glob(f"checkpoint-*/{part}")) - there), rng.uniform(0.0, 0.2))


def _after(seconds: float) -> Moment:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _once(seen: Callable[[], bool], pause: float) -> Moment:
    """Some time after something was seen."""
    at: list[float] = []

    def moment() -> bool:
        if not at and seen():
            at.append(time.monotonic() + pause)
        return bool(at) and time.monotonic() >= at[0]

    return moment


def _rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _wrong_end(ended: Ended) -> str:
    """What is wrong with the end of a command that was hit; empty for nothing."""
    if ended.has_traceback:
        return f"a traceback: {ended.last_line}"
    if ended.code < 0 or ended.last_line.startswith("relax: stopped"):
        return ""
    return f"exit code {ended.code}: {ended.last_line}"


def _next(ended: Ended, name: str, start: list[str], folder: Path) -> list[str]:
    """The command that the last one named, or that a user gives after a kill."""
    if ended.code > 0:
        return shlex.split(ended.last_line.partition(" with: ")[2])[1:]
    rehearsal = run(["train", "--resume", "--dry-run", "--output", name], folder, folder / f"{name}.rehearsal.log")
    if rehearsal.code == 0:
        return ["train", "--resume", "--output", name]
    return [*start, "--overwrite"] if (folder / name / "config.json").is_file() else start
