"""GRPO and ReLaX from the same start, side by side, in minutes on two CPU cores, and what came of it.

relax demo                      trains both, evaluates both, prints a table and the path of a report page
relax demo --steps 200 --run runs/longer
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.errors import ConfigError, RelaxError
from relax_rl.runs import RunDirectory
from relax_rl.workflows.compare.jobs import job_of, run_jobs
from relax_rl.workflows.compare.plan import parse_methods, plan_runs

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
    words = [f"--trainer.max_steps={arguments.steps}", *settings]
    planned = plan_runs("countdown", words, parse_methods(",".join(METHODS)), [arguments.seed], arguments.run)
    runs = [RunDirectory.new(one.config.run_path, overwrite=arguments.overwrite) for one in planned]
    jobs = [job_of(one, arguments.run, anew=True) for one in planned]
    for job in jobs:
        print(f"{job.label}: evaluate, {job.num_steps} updates, evaluate; log in {job.log}", file=sys.stderr)
    for failure in run_jobs(jobs, len(jobs), stop_at_failure=True):
        job = failure.job
        raise RelaxError(f"The run of {job.label} failed: {failure.sentence} (all of it in {job.log})")
    _print_table(runs)
    print(f"report: {_write_report([run.path for run in runs], arguments.run / 'report.html')}")
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes", file=sys.stderr)
    return 0


def _write_report(paths: list[Path], output: Path) -> Path:
    from relax_rl.reports.page import write_report

    return write_report(paths, output)


def _print_table(runs: list[RunDirectory]) -> None:
    from rich.console import Console
    from rich.table import Table

    from relax_rl.evaluation.result import EvaluationResult

    after = {METHODS[run.path.parent.name]: EvaluationResult.load(run.evaluations / "after.json") for run in runs}
    shown = next(iter(after.values()))
    table = Table(
        title=f"{shown.task}: {shown.num_problems} held-out problems x {shown.num_samples} samples",
        caption="95 % intervals by bootstrap over problems, for these runs; another seed gives another run",
    )
    table.add_column("")
    for name, _ in SHOWN:
        table.add_column("DSD" if name == "dsd" else name, justify="right")
    if runs[0].is_evaluated("before"):
        table.add_row("before", *_cells(EvaluationResult.load(runs[0].evaluations / "before.json")))
    for method, result in after.items():
        table.add_row(f"after {method}", *_cells(result))
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
