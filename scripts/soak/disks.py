"""Disks that are full, read-only or under a quota: one sentence, and with room again the run ends as ever."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from soak.equality import half_lines, run_differences
from soak.launch import Ended, Fork, run
from soak.moments import resumed
from soak.points import replace
from soak.records import Outcome

__all__ = ["can_mount", "survives_full_disk", "survives_quota", "survives_read_only"]


def can_mount(folder: Path) -> bool:
    """Whether this process may mount small file systems, as root may in most containers."""
    try:
        with _mounted(folder, 1):
            return True
    except subprocess.CalledProcessError:
        return False


def survives_full_disk(name: str, config: Path, reference: Path, folder: Path, kib: int) -> Outcome:
    """A run on a file system of so many KiB, which is made larger once it is full."""
    start = ["train", str(config), "--output", "run"]
    with _mounted(folder / name, kib):
        # The rehearsal would refuse it: the disk is one that fills up from elsewhere.
        unseen = replace("relax_rl.workflows.build:check_disk", lambda function, args, kwargs: None)
        ended = run(start, folder / name, folder / f"{name}.log", unseen)
        if ended.code == 0:
            return Outcome("disk", name, "equal", "there was room enough")
        if wrong := _wrong_end(ended, folder / name / "run"):
            return Outcome("disk", name, "WRONG", wrong)
        _remount(folder / name, f"size={200_000}k")
        return _resumed_equal(name, start, reference, folder / name, ended)


def survives_read_only(name: str, config: Path, reference: Path, folder: Path) -> Outcome:
    """A run whose file system turns read-only after the fifth update, as a disk with errors does."""
    start, place = ["train", str(config), "--output", "run"], folder / name
    with _mounted(place, 200_000):
        fork = Fork(start, place, folder / f"{name}.log")
        metrics = place / "run" / "metrics.jsonl"
        while fork.is_running() and not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 5):
            time.sleep(0.002)
        while fork.is_running() and not _remount(place, "ro"):  # refused while a file is being written
            time.sleep(0.001)
        ended = fork.wait()
        if wrong := _wrong_end(ended, place / "run"):
            return Outcome("disk", name, "WRONG", wrong)
        _remount(place, "rw")
        return _resumed_equal(name, start, reference, place, ended)


def survives_quota(name: str, config: Path, reference: Path, folder: Path, file_bytes: int) -> Outcome:
    """A run that may write only so much into one file (``ulimit -f``)."""
    start = ["train", str(config), "--output", name]
    shutil.rmtree(folder / name, ignore_errors=True)
    ended = run(start, folder, folder / f"{name}.log", file_size=file_bytes)
    if wrong := _wrong_end(ended, folder / name):
        return Outcome("disk", name, "WRONG", wrong)
    return _resumed_equal(name, start, reference, folder, ended)


def _resumed_equal(name: str, start: list[str], reference: Path, folder: Path, ended: Ended) -> Outcome:
    run_name = start[-1]
    again = resumed(run_name, start, folder)
    if again.code != 0:
        return Outcome("disk", name, "WRONG", f"with room again: exit code {again.code}: {again.last_line}")
    found = run_differences(reference, folder / run_name)
    return Outcome("disk", name, "WRONG" if found else "equal", "; ".join(found) or ended.error)


def _wrong_end(ended: Ended, place: Path) -> str:
    if ended.has_traceback or ended.code != 2 or not ended.error:
        return f"exit code {ended.code}: {ended.last_line}"
    return "; ".join(half_lines(place))


@contextlib.contextmanager
def _mounted(folder: Path, kib: int) -> Generator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def _remount(folder: Path, option: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], capture_output=True).returncode == 0
