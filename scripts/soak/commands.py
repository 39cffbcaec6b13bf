"""The other commands that run for long: evaluations and comparisons that are killed and signalled."""

from __future__ import annotations

import random
import shlex
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from soak.equality import evaluation_differences, run_differences
from soak.launch import Fork, run
from soak.records import Outcome

__all__ = ["evaluation_words", "survives_comparison", "survives_evaluation"]


def evaluation_words(output: str) -> list[str]:
    """An evaluation of some seconds, in several blocks."""
    return [*("eval", "tiny", "--task", "countdown", "-n", "16", "-k", "4", "--batch-size", "8", "-o", output)]


def survives_evaluation(name: str, reference: Path, folder: Path, seed: int) -> Outcome:
    """An evaluation that is hit at random moments, and gone on with by the same command."""
    rng, faults = random.Random(seed), Counter[str]()
    shutil.rmtree(folder / name, ignore_errors=True)
    for attempt in range(6):
        fork = Fork(evaluation_words(name), folder, folder / f"{name}.log")
        if attempt < 5:
            number = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
            until = time.monotonic() + rng.uniform(0.1, 2.5)
            while fork.is_running() and time.monotonic() < until:
                time.sleep(0.005)
            if fork.is_running():
                fork.send(number)
                faults[number.name] += 1
        ended = fork.wait()
        if ended.code == 0:
            break
        if ended.has_traceback or (ended.code > 0 and not ended.last_line.startswith("relax: stopped")):
            return Outcome("eval", name, "WRONG", f"exit code {ended.code}: {ended.last_line}", dict(faults))
    found = evaluation_differences(reference, folder / name)
    return Outcome("eval", name, "WRONG" if found else "equal", "; ".join(found), dict(faults))


def survives_comparison(name: str, config: Path, number: signal.Signals, reference: Path, folder: Path) -> Outcome:
    """A comparison whose children must end with it, keep what they have done, and go on."""
    words = ["compare", str(config), "--methods", "grpo,relax", "--seeds", "1", "--jobs", "2", "--output", name]
    shutil.rmtree(folder / name, ignore_errors=True)
    fork = Fork(words, folder, folder / f"{name}.log")
    while fork.is_running() and not list((folder / name).glob("*/seed0/metrics.jsonl")):
        time.sleep(0.02)
    children = _children(fork.pid)
    fork.send(number)
    ended, faults = fork.wait(), {number.name: 1}
    until = time.monotonic() + 5
    while any(map(_is_alive, children)) and time.monotonic() < until:
        time.sleep(0.02)
    if orphans := [child for child in children if _is_alive(child)]:
        return Outcome("compare", name, "WRONG", f"orphans {orphans}", faults)
    if number != signal.SIGKILL:
        kept = list((folder / name).glob("*/seed0/checkpoints/checkpoint-*"))
        if ended.code != 128 + number or ended.has_traceback or not kept:
            return Outcome("compare", name, "WRONG", f"exit code {ended.code}: {ended.last_line}", faults)
        words = shlex.split(ended.last_line.partition(" with: ")[2])[1:]
    again = run(words, folder, folder / f"{name}.log")
    if again.code != 0:
        return Outcome("compare", name, "WRONG", f"exit code {again.code}: {again.last_line}", faults)
    found = [
        f"{method}: {difference}"
        for method in ("grpo", "relax")
        for difference in run_differences(reference / method / "seed0", folder / name / method / "seed0")
    ]
    return Outcome("compare", name, "WRONG" if found else "equal", "; ".join(found), faults)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
