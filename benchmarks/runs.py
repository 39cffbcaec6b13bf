"""What a whole run costs, against another revision of this project: start-up, update, checkpoint, end.

python benchmarks/runs.py --reference bebb5a9
python benchmarks/runs.py --reference HEAD~1 --methods grpo --rounds 9

Both revisions run at the same time, each in a process of its own on a core of its own, on one thread, with the same
settings: the shipped countdown config with a checkpoint after every fourth update and no evaluation. What disturbs the
machine disturbs both sides of a round, and the cores change sides every round. An update is timed from one row of
metrics to the next, and an update that ends in a checkpoint counts apart. All figures are processor seconds, which
other programs on the machine disturb less than the clock; the ratio is that of the two sides of a round, its median
over rounds with a bootstrap interval of 95 %. The completions are the same on both sides, or the script refuses to
compare them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from side_by_side.revisions import ROOT, Revision

SAVE_STEPS = 4
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


def measured(revision: Revision, core: int, objective: str, updates: int) -> tuple[dict[str, float], list[float]]:
    """Processor seconds of each of ``PARTS``, and the rewards, from a process of its own on ``core``."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["taskset", "--cpu-list", str(core), sys.executable, __file__, "--once", folder]
        words += ["--methods", objective, "--updates", str(updates)]
        subprocess.run(words, env=revision.environment(), cwd=folder, check=True, capture_output=True)
        result = json.loads((Path(folder) / "times.json").read_text())
    return result["parts"], result["rewards"]


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """Bootstrap interval of 95 % of the median."""
    source = random.Random(0)
    medians = sorted(median(source.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[round(0.025 * draws)], medians[round(0.975 * draws) - 1]


def compare(reference: Revision, candidate: Revision, objective: str, rounds: int, updates: int) -> None:
    """Print the ratio of each part."""
    found: dict[str, list[dict[str, float]]] = {"reference": [], "candidate": []}
    cores = sorted(os.sched_getaffinity(0))[:2]
    for number in range(rounds):
        sides = [reference, candidate][:: 1 if number % 2 else -1]
        with ThreadPoolExecutor(len(cores)) as both:
            running = [
                both.submit(measured, side, core, objective, updates)
                for side, core in zip(sides, cores * 2, strict=False)
            ]
        results = {side.role: run.result() for side, run in zip(sides, running, strict=True)}
        if results["reference"][1] != results["candidate"][1]:
            raise SystemExit(f"{objective}: the two revisions do not sample the same completions; nothing to compare.")
        for role, (parts, _) in results.items():
            found[role].append(parts)
            print(f"{objective}, round {number + 1}, {role}: {parts}", file=sys.stderr, flush=True)
    for part in PARTS:
        ours, theirs = ([times[part] for times in found[role]] for role in ("candidate", "reference"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, high = interval(ratios)
        print(
            f"{objective:8} {part:24} {median(theirs):7.2f} s  {median(ours):7.2f} s  "
            f"ratio {median(ratios):.3f} [{low:.3f}, {high:.3f}]"
        )


def main() -> None:
    """Measure each method in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default="HEAD~1", help="the revision to compare with")
    parser.add_argument("--candidate", default=str(ROOT), help="a revision or a folder; this folder by default")
    parser.add_argument("--methods", default="grpo,relax")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        run_once(arguments.methods, arguments.updates, Path(arguments.once))
        return
    with tempfile.TemporaryDirectory() as work:
        reference = Revision.of(arguments.reference, "reference", Path(work))
        candidate = Revision.of(arguments.candidate, "candidate", Path(work))
        for side in (reference, candidate):
            side.check()
        print(f"{'method':8} {'part':24} {'reference':>9}  {'candidate':>9}  of the candidate to the reference")
        for objective in arguments.methods.split(","):
            compare(reference, candidate.beside(reference), objective, arguments.rounds, arguments.updates)


if __name__ == "__main__":
    main()
