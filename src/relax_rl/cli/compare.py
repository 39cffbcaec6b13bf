"""Several methods, several seeds, one verdict: the same start, the same prompts in the same order, equal budgets.

relax compare countdown --methods grpo,dapo,kl_cov,entropy_bonus,relax --seeds 5
relax compare countdown --methods grpo,relax,relax:alpha=0.3:estimator=robust --seeds 3 --jobs 2
relax compare own.toml --methods methods.toml --baseline "GRPO, tuned" --trainer.max_steps 200

The same command continues a comparison that was stopped: finished runs are kept, the others go on from their last
checkpoint. More seeds and more methods may be asked for later.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.cli.train import ADVANCED, CORE, add_settings, rehearse
from relax_rl.comparison.contents import Contents
from relax_rl.config import BatchPlan, shipped_configs
from relax_rl.config.messages import did_you_mean
from relax_rl.errors import ConfigError, RelaxError, RunError
from relax_rl.workflows.compare.jobs import Failure, job_of, run_jobs
from relax_rl.workflows.compare.plan import PlannedRun, parse_methods, parse_seeds, plan_runs

if TYPE_CHECKING:
    from relax_rl.comparison.methods import Comparison
    from relax_rl.statistics.seeded_means import SeededMean

__all__ = ["EPILOG", "HELP", "add_arguments", "run"]

HELP = "train several methods with several seeds, and say what can be said"

EPILOG = """\
methods:
  NAME                      a method with its own settings, and those of CONFIG where CONFIG names it
  NAME:OPTION=VALUE:...     options of the method; with a dot, settings of the run: relax:dictionary.steps=200
  FILE.toml                 a table for each method, titled with its label, that holds what it changes in CONFIG

settings for all runs are given as for 'relax train', as --SECTION.KEY VALUE; how much is sampled, the task, the model
and the evaluation are the same for all methods.
"""

LOCK_FILE = ".lock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, how often, and where."""
    parser.set_defaults(settings=[])
    core = parser.add_argument_group("core")
    names = ", ".join(shipped_configs())
    core.add_argument("config", metavar="CONFIG", help=f"a .toml, .yaml or .json file, or one of: {names}")
    core.add_argument("--methods", required=True, metavar="LIST", help="names with commas between, or a TOML file")
    core.add_argument("--seeds", default="3", metavar="N", help="how many, or a list such as 3,7 (%(default)s)")
    core.add_argument("--baseline", metavar="METHOD", help="that the others are compared with (the first)")
    core.add_argument(
        "--metrics", metavar="LIST", help="to test, such as mean@1,pass@16 (mean@1 and the largest pass@k)"
    )
    core.add_argument("--run", type=Path, default=Path("runs/compare"), metavar="DIR", help="(%(default)s)")
    add_settings(core, {key: CORE[key] for key in ("model", "task")})
    core.add_argument("--dry-run", action="store_true", help="check everything, say what would run, write nothing")
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once (%(default)s)")
    advanced.add_argument("--overwrite", action="store_true", help="delete the runs that are in DIR and named here")
    add_settings(advanced, ADVANCED)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Train what is owed, print the tables and the verdicts, write the data and the page."""
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs is {arguments.jobs}; give a number of runs at once of at least 1")
    methods = parse_methods(arguments.methods)
    labels = [method.label for method in methods]
    baseline = arguments.baseline or labels[0]
    if baseline not in labels:
        raise ConfigError(f"--baseline is '{baseline}', which is not one of --methods{did_you_mean(baseline, labels)}")
    folder: Path = arguments.run
    metrics = None if arguments.metrics is None else [name.strip() for name in arguments.metrics.split(",")]
    runs = plan_runs(arguments.config, [*arguments.settings, *settings], methods, parse_seeds(arguments.seeds), folder)
    _check_metrics(metrics, runs[0].config.evaluation.num_samples)
    _check_folder(folder)
    if not arguments.overwrite:
        for planned in runs:
            planned.check_kept()
    batches = _rehearse_methods(runs, labels)
    owed = [planned for planned in runs if arguments.overwrite or not planned.is_finished()]
    if arguments.dry_run:
        _print_plan(runs, owed, batches, baseline, arguments.jobs)
        return 0
    started = time.perf_counter()
    with _only_one(folder):
        seeds = list(dict.fromkeys(planned.seed for planned in runs))
        Contents(baseline, {method.label: method.folder for method in methods}, seeds, metrics).write(folder)
        if len(owed) < len(runs):
            print(f"{len(runs) - len(owed)} of {len(runs)} runs were finished before", file=sys.stderr)
        failures = run_jobs([job_of(planned, folder, anew=arguments.overwrite) for planned in owed], arguments.jobs)
        minutes = (time.perf_counter() - started) / 60
        if owed:
            print(f"{len(owed) - len(failures)} of {len(owed)} runs in {minutes:.1f} minutes", file=sys.stderr)
        _tell(folder)
    _raise_failures(failures)
    return 0


def _check_metrics(metrics: Sequence[str] | None, num_samples: int) -> None:
    """Those of which every problem has a value."""
    for name in metrics or ():
        kind, _, k = name.partition("@")
        if name != "mean@1" and not (kind == "pass" and k.isdecimal() and 1 <= int(k) <= num_samples):
            raise ConfigError(
                f"--metrics: '{name}' cannot be tested; give mean@1 and pass@k with k from 1 to "
                f"evaluation.num_samples = {num_samples}"
            )


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not Contents.is_in(folder):
        raise RunError(f"{folder} is not empty and holds no comparison; choose another folder with --run DIR")


def _rehearse_methods(runs: Sequence[PlannedRun], labels: Sequence[str]) -> BatchPlan:
    """Build what each method would, so that a mistake is told before the first run and not after hours."""
    batches = None
    for planned in runs[: len(labels)]:  # those of the first seed
        try:
            batches, _ = rehearse(planned.config)
        except RelaxError as error:
            raise ConfigError(f"--methods: '{planned.method}': {error}") from error
    assert batches is not None
    return batches


def _print_plan(
    runs: Sequence[PlannedRun], owed: Sequence[PlannedRun], batches: BatchPlan, baseline: str, num_at_once: int
) -> None:
    first = runs[0].config
    methods = list(dict.fromkeys(planned.method for planned in runs))
    seeds = list(dict.fromkeys(planned.seed for planned in runs))
    begun = sum(planned.directory.is_run() for planned in owed)
    evaluated = (1 + first.evaluation.before) * len(runs) * first.evaluation.num_problems * first.evaluation.num_samples
    print(f"methods   {', '.join(methods)}; compared with {baseline}")
    print(f"seeds     {', '.join(map(str, seeds))}")
    print(
        f"runs      {len(runs)}: {len(runs) - len(owed)} finished, {begun} begun, {len(owed) - begun} to start; ",
        end="",
    )
    print(f"{num_at_once} at once")
    print(f"each run  {batches.words().replace(chr(10), chr(10) + ' ' * 10)}")
    print(f"in all    {len(runs) * batches.total_completions:,} completions to train on, {evaluated:,} to evaluate")
    print(f"directory {Path(first.run_path).parent.parent}")
    print("dry run: the settings fit together; nothing was written")


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Inside, no other comparison works in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise RunError(f"cannot write the folder {folder}: {error}; choose another with --run DIR") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another 'relax compare' is at work in {folder}; wait for it, or stop it") from error
        yield


def _tell(folder: Path) -> None:
    """Tables and verdicts on the screen, the data as CSV, the page."""
    from relax_rl.comparison.methods import compare_methods
    from relax_rl.comparison.records import read_runs
    from relax_rl.comparison.tables import write_comparison_data
    from relax_rl.reports.page import write_report

    contents = Contents.read(folder)
    baseline, metrics = contents.baseline, contents.metrics
    paths, methods = contents.evaluated_runs(folder)
    if baseline not in methods:
        return
    records = read_runs(paths, methods)
    comparison = compare_methods(records, baseline, metrics)
    _print_comparison(comparison)
    for path in write_comparison_data(comparison, records, folder):
        print(f"data: {path}")
    print(f"report: {write_report(paths, folder / 'report.html', methods=methods, baseline=baseline, metrics=metrics)}")


def _print_comparison(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=118)
    baseline, metrics = comparison.baseline, comparison.metrics
    values = Table(title="after training; 95 % intervals over seeds and problems")
    for heading in ("method", "seeds", *metrics, "entropy", "DSD", "s/run", "tokens/run"):
        values.add_column(
            heading, justify="left" if heading == "method" else "right", no_wrap=heading != "method", overflow="fold"
        )
    for row in comparison.methods:
        cells = [_interval(row.values.get(name), ".3f") for name in metrics]
        cells += [_point(row.values.get(name), form) for name, form in (("entropy", ".3f"), ("dsd", ".4f"))]
        values.add_row(row.method, str(len(row.seeds)), *cells, f"{row.seconds:.0f}", f"{row.tokens:,.0f}")
    console.print(values)
    if len(comparison.methods) > 1:
        table = Table(title=f"minus {baseline}, paired by seed and problem; p corrected by Holm for each metric")
        table.add_column("method")
        for name in metrics:
            table.add_column(name, justify="right")
            table.add_column("p", justify="right")
        for row in comparison.methods:
            found = [row.differences.get(name) for name in metrics]
            cells = [
                cell
                for difference in found
                for cell in (
                    _interval(difference.mean if difference else None, "+.3f"),
                    difference.shown_p if difference else "-",
                )
            ]
            if row.method != baseline:
                table.add_row(row.method, *cells)
        console.print(table)
    for row in comparison.methods:
        print(row.sentence)
    for remark in comparison.remarks:
        print(f"note: {remark}")


def _interval(mean: SeededMean | None, form: str) -> str:
    return "-" if mean is None else f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def _point(mean: SeededMean | None, form: str) -> str:
    return "-" if mean is None else f"{mean.value:{form}}"


def _raise_failures(failures: Sequence[Failure]) -> None:
    if failures:
        told = "; ".join(f"{failure.job.label}: {failure.sentence} ({failure.job.log})" for failure in failures)
        raise RunError(
            f"{len(failures)} run{'s' * (len(failures) > 1)} failed, and the same command tries again: {told}"
        )
