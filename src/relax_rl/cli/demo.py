"""GRPO and ReLaX from the same start, in minutes on two CPU cores, and what came of it.

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

from relax_rl.config import load_config
from relax_rl.errors import ConfigError
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
    core.add_argument("--steps", type=int, metavar="N", help="updates of each method (default: the shipped config's)")
    core.add_argument("--seed", type=int, default=0, help="of both runs (%(default)s)")
    core.add_argument("--run", type=Path, default=Path("runs/demo"), metavar="DIR", help="(%(default)s)")
    core.add_argument("--overwrite", action="store_true", help="delete the demo's runs that are in DIR")


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Train both methods, print the table, write the page. Further settings apply to both runs."""
    if arguments.steps is not None and arguments.steps < 1:
        raise ConfigError(f"--steps is {arguments.steps}; give a number of updates of at least 1.")
    started = time.perf_counter()
    runs = []
    for method in METHODS:
        words = [f"--objective.name={method}", f"--seed={arguments.seed}", f"--run={arguments.run / method}", *settings]
        words += [] if arguments.steps is None else [f"--trainer.max_steps={arguments.steps}"]
        config = load_config("countdown", words)
        runs.append((config, RunDirectory.new(config.run_path, overwrite=arguments.overwrite)))

    from relax_rl.training.train import train

    for config, directory in runs:
        print(f"{METHODS[config.objective.name]}: {config.trainer.max_steps} updates", file=sys.stderr)
        train(config, directory)
    _print_table([directory for _, directory in runs])
    print(f"report: {_write_report([directory.path for _, directory in runs], arguments.run / 'report.html')}")
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes", file=sys.stderr)
    return 0


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
