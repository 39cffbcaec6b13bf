"""GRPO and ReLaX from the same start, side by side, in minutes on two CPU cores, and what came of it.

relax demo                      trains both, evaluates both, prints a table and the path of a report page
relax demo --steps 200 --run runs/longer
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.config import load_config
from relax_rl.errors import ConfigError, RelaxError
from relax_rl.runs import RunDirectory

if TYPE_CHECKING:
    from relax_rl.evaluation.result import EvaluationResult

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train the embedded policy with GRPO and with ReLaX, and compare"

METHODS = {"grpo": "GRPO", "relax": "ReLaX"}
SHOWN = (("mean@1", ".3f"), ("pass@16", ".3f"), ("entropy", ".3f"), ("dsd", ".4f"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and where to."""
    core = parser.add_argument_group("core")
    core.add_argument("--steps", type=int, default=50, metavar="N", help="updates of each method (%(default)s)")
    core.add_argument("--seed", type=int, default=0, help="of both runs (%(default)s)")
    core.add_argument("--run", type=Path, default=Path("runs/demo"), metavar="DIR", help="(%(default)s)")
    core.add_argument("--overwrite", action="store_true", help="delete the demo's runs that are in DIR")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Train both methods side by side, print the table, write the page. Further settings apply to both runs."""
    if arguments.steps < 1:
        raise ConfigError(f"--steps is {arguments.steps}; give a number of updates of at least 1.")
    started = time.perf_counter()
    jobs = [_job(method, arguments, settings) for method in METHODS]
    _train_side_by_side(jobs)
    runs = [job.run for job in jobs]
    _print_table(runs)
    print(f"report: {_write_report([run.path for run in runs], arguments.run / 'report.html')}")
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes", file=sys.stderr)
    return 0


@dataclass(frozen=True)
class _Job:
    """One method's training: a `relax train` of its own."""

    label: str
    words: list[str]
    run: RunDirectory
    num_steps: int

    @property
    def log(self) -> Path:
        return self.run.path.with_suffix(".log")

    def start(self) -> subprocess.Popen[bytes]:
        # The policy is so small that a second thread costs more than it brings; the second core goes to the other run.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "relax_rl.cli.main", "train", "countdown", *self.words]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def steps_done(self) -> int:
        """Read from the run's metrics; 0 until it has some."""
        rows = self.run.read_metrics() if self.run.metrics_path.is_file() else []
        return int(rows[-1]["step"]) if rows else 0


def _job(method: str, arguments: argparse.Namespace, settings: Sequence[str]) -> _Job:
    words = [
        f"--objective.name={method}",
        f"--seed={arguments.seed}",
        f"--run={arguments.run / method}",
        f"--trainer.max_steps={arguments.steps}",
        *settings,
    ]
    config = load_config("countdown", words)
    run = RunDirectory.new(config.run_path, overwrite=arguments.overwrite)
    words += ["--overwrite"] if arguments.overwrite else []
    return _Job(METHODS[method], words, run, config.trainer.max_steps)


def _train_side_by_side(jobs: list[_Job]) -> None:
    """Run the jobs to their end, with a line of progress for each.

    Raises:
        RelaxError: when a job fails; the other one is stopped, and the sentence says where the log is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    for job in jobs:
        print(f"{job.label}: evaluate, {job.num_steps} updates, evaluate; log in {job.log}", file=sys.stderr)
    processes = [job.start() for job in jobs]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bars = [progress.add_task(job.label, total=job.num_steps) for job in jobs]
            while any(process.poll() is None for process in processes):
                time.sleep(0.5)
                for job, bar, process in zip(jobs, bars, processes, strict=True):
                    progress.update(bar, completed=job.steps_done())
                    if process.poll():
                        raise RelaxError(f"The {job.label} run failed: {_last_line(job.log)} (all of it in {job.log})")
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("relax: error: ") if lines else "it wrote nothing"


def _write_report(paths: list[Path], output: Path) -> Path:
    from relax_rl.reports.page import write_report

    return write_report(paths, output)


def _print_table(runs: list[RunDirectory]) -> None:
    from rich.console import Console
    from rich.table import Table

    from relax_rl.evaluation.result import EvaluationResult

    start = EvaluationResult.load(runs[0].evaluations / "before.json")
    table = Table(
        title=f"{start.task}: {start.num_problems} held-out problems x {start.num_samples} samples",
        caption="95 % intervals by bootstrap over problems, for these runs; another seed gives another run",
    )
    table.add_column("")
    for name, _ in SHOWN:
        table.add_column("DSD" if name == "dsd" else name, justify="right")
    table.add_row("before", *_cells(start))
    for run in runs:
        after = EvaluationResult.load(run.evaluations / "after.json")
        table.add_row(f"after {METHODS[run.path.name]}", *_cells(after))
    Console(width=110).print(table)


def _cells(result: EvaluationResult) -> list[str]:
    """Value and interval of each shown metric; a dash where the evaluation has none."""
    cells = []
    for name, form in SHOWN:
        estimate = result.metrics.get(name)
        if estimate is None:
            cells.append("-")
        else:
            value, low, high = (f"{number:{form}}" for number in (estimate.value, estimate.low, estimate.high))
            cells.append(f"{value} [{low}, {high}]")
    return cells
