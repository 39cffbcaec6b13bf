"""GRPO and ReLaX from the same start, side by side, in minutes on two CPU cores, and what came of it.

relax demo                      trains both, evaluates both, prints a table and the path of a report page
relax demo --steps 200 --output runs/longer
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relax_rl.cli.arguments import add_time_limit
from relax_rl.workflows.demo import DemoResult, prepare_demo

if TYPE_CHECKING:
    from relax_rl.evaluation.result import EvaluationResult
    from relax_rl.workflows.progress import Progress

__all__ = ["add_arguments", "run"]

SHOWN = (("mean@1", ".3f"), ("pass@16", ".3f"), ("entropy", ".3f"), ("dsd", ".4f"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and where to."""
    core = parser.add_argument_group("core")
    core.add_argument("--steps", type=int, default=50, metavar="N", help="updates of each method (%(default)s)")
    core.add_argument("--seed", type=int, default=0, help="seed of both runs (%(default)s)")
    core.add_argument("-o", "--output", default="runs/demo", metavar="DIR", help="(%(default)s)")
    core.add_argument("--resume", action="store_true", help="continue the demo that was stopped in DIR")
    core.add_argument("--overwrite", action="store_true", help="delete the demo's runs that are in DIR")
    add_time_limit(core)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Train both methods side by side, print the table, write the page. Further settings apply to both runs."""
    started = time.perf_counter()
    planned = prepare_demo(
        arguments.steps,
        arguments.seed,
        overrides=settings,
        output=arguments.output,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )

    from relax_rl.cli.progress import JobBars

    with JobBars(planned.runs) as bars:

        def follow(progress: Progress) -> None:
            if progress.stage == "started":
                plan = f"evaluate, {progress.total} updates, evaluate; {progress.message}"
                print(f"{progress.run}: {plan}", file=sys.stderr)
            bars(progress)

        result = planned.run(follow)
    _print_table(result)
    if result.page is not None:
        print(f"report: {result.page}")
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes", file=sys.stderr)
    return 0


def _print_table(result: DemoResult) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = next(iter(result.after.values()))
    table = Table(
        title=f"{shown.task}: {shown.num_problems} held-out problems x {shown.num_samples} samples",
        caption="95 % intervals by bootstrap over problems, for these runs; another seed gives another run",
    )
    table.add_column("")
    for name, _ in SHOWN:
        table.add_column("DSD" if name == "dsd" else name, justify="right")
    if result.before is not None:
        table.add_row("before", *_cells(result.before))
    for method, evaluation in result.after.items():
        table.add_row(f"after {method}", *_cells(evaluation))
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
