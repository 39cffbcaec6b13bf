"""What a whole run costs, against another revision of this project: start-up, update, checkpoint, end.

python benchmarks/suite.py --only runs           against the revision that the newest result of the history came with
python benchmarks/runs.py --reference bebb5a9    against another one

Both revisions run at once, each in a process on a core of its own, on one thread, with the same settings: the shipped
countdown config with a checkpoint after every fourth update and no evaluation. They swap cores every round. An update
is timed from one row of metrics to the next, and an update that ends in a checkpoint counts apart. All figures are
processor seconds; the ratio is the median over rounds. The completions are the same on both sides, or nothing is
compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from frame.rows import Effort, Row, row_of_times
from frame.timing import ApartError, Times, at_once
from side_by_side.revisions import ROOT, Revision

SAVE_STEPS = 4
BENCHMARKS = Path(__file__).resolve().parent
PARTS = ("start-up", "update", "update with checkpoint", "end")


def run_once(objective: str, updates: int, output: Path) -> None:
    """Train with whatever `relax_rl` is on the path, and leave the processor seconds of each part in a file."""
    import relax_rl

    times: list[float] = []
    rewards: list[float] = []

    def note(progress: relax_rl.Progress) -> None:
        if progress.stage == "training" and progress.metrics:
            times.append(time.process_time())
            rewards.append(progress.metrics["reward"])

    settings = {
        "output": str(output / "run"),
        "objective.name": objective,
        "evaluation.enabled": False,
        "trainer.max_steps": updates,
        "trainer.save_steps": SAVE_STEPS,
        "trainer.save_total_limit": 2,
    }
    relax_rl.train("countdown", overrides=settings, on_progress=note)
    end = time.process_time()
    # A row is logged before the checkpoint is written, so the update after it carries the time.
    spent = [(number, now - before) for number, (before, now) in enumerate(itertools.pairwise(times), 1)]
    parts = {
        "start-up": times[0],
        "update": mean(seconds for number, seconds in spent if number % SAVE_STEPS),
        "update with checkpoint": mean(seconds for number, seconds in spent if not number % SAVE_STEPS),
        "end": end - times[-1],
    }
    (output / "times.json").write_text(json.dumps({"parts": parts, "rewards": rewards}))


def measured(revision: Revision, objective: str, updates: int, core: int) -> tuple[dict[str, float], list[float]]:
    """Processor seconds of each of ``PARTS``, and the rewards, from a process of its own on this core."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--once", folder, "--core", str(core)]
        words += ["--methods", objective, "--updates", str(updates)]
        done = subprocess.run(words, env=revision.environment(BENCHMARKS), cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise ApartError(f"a run of {revision.label} failed: {done.stderr.strip()[-2000:]}")
        result = json.loads((Path(folder) / "times.json").read_text())
    return result["parts"], result["rewards"]


def compare(reference: str, candidate: str, objective: str, rounds: int, updates: int) -> Iterator[Row]:
    """A row for each part of a run."""
    with tempfile.TemporaryDirectory() as work:
        base = Revision.of(reference, "reference", Path(work))
        sides = (base, Revision.of(candidate, "candidate", Path(work)).beside(base))
        for side in sides:
            side.check()
        times = {side.role: {part: Times() for part in PARTS} for side in sides}
        works = {side.role: partial(measured, side, objective, updates) for side in sides}
        for found in at_once(works, rounds):
            if found["reference"][1] != found["candidate"][1]:
                raise ApartError(f"{objective}: {base.label} samples other completions; there is nothing to compare")
            for role, (parts, _) in found.items():
                for part, seconds in parts.items():
                    times[role][part].processor.append(seconds)
    for part in PARTS:
        ours, theirs = times["candidate"][part], times["reference"][part]
        yield row_of_times(f"{objective}, {part}", ours, theirs, base.label)


def rows(effort: Effort) -> Iterator[Row]:
    """Against the revision that brought the newest result of the history; whole runs are nothing quick."""
    if effort.is_quick:
        return
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%H", "--", "benchmarks/history"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    if not asked.stdout:
        raise ApartError("git knows no revision with a result in benchmarks/history")
    yield from compare(asked.stdout.strip(), str(ROOT), "grpo", min(effort.rounds, 2), updates=6)


def main() -> None:
    """Measure each method in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default="HEAD~1", help="the revision to compare with")
    parser.add_argument("--candidate", default=str(ROOT), help="a revision or a folder; this folder by default")
    parser.add_argument("--methods", default="grpo,relax")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        os.sched_setaffinity(0, {arguments.core})
        run_once(arguments.methods, arguments.updates, Path(arguments.once))
        return
    for objective in arguments.methods.split(","):
        for row in compare(arguments.reference, arguments.candidate, objective, arguments.rounds, arguments.updates):
            span = f"[{row.low:.3f}, {row.high:.3f}] over rounds"
            print(f"{row.name:32} {row.ours:7.2f} s, {row.theirs:7.2f} s before, ratio {row.ratio:.3f} {span}")


if __name__ == "__main__":
    main()
