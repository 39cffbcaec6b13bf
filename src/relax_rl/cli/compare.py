"""Several methods, several seeds, one verdict: the same start, the same prompts in the same order, equal budgets.

relax compare countdown --methods grpo,dapo,kl_cov,entropy_bonus,relax --seeds 5
relax compare countdown --methods grpo,relax,relax:alpha=0.3:estimator=robust --seeds 3 --jobs 2
relax compare own.toml --methods methods.toml --baseline "GRPO, tuned" --trainer.max_steps 200

The same command continues a comparison that was stopped: finished runs are kept, the others go on from their last
checkpoint. More seeds and more methods may be asked for later.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from relax_rl.cli.arguments import add_time_limit, add_trust
from relax_rl.cli.train import ADVANCED, CORE, add_settings
from relax_rl.config import shipped_configs
from relax_rl.workflows.compare import PlannedComparison, prepare_comparison

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
methods:
  NAME                      a method with its own settings, and those of CONFIG where CONFIG names it
  MODULE:FUNCTION           a method of one's own
  NAME:OPTION=VALUE:...     options of the method; with a dot, settings of the run: relax:dictionary.steps=200
  FILE.toml                 a table for each method, titled with its label, that holds what it changes in CONFIG

settings for all runs are given as for 'relax train', as --SECTION.KEY VALUE; how much is sampled, the task, the model
and the evaluation are the same for all methods.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Methods, number of seeds, and output folder."""
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
    core.add_argument("-o", "--output", default="runs/compare", metavar="DIR", help="(%(default)s)")
    add_settings(core, {key: CORE[key] for key in ("model", "task")})
    core.add_argument("--dry-run", action="store_true", help="build every method, say what would run, write nothing")
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once (%(default)s)")
    advanced.add_argument("--overwrite", action="store_true", help="delete the runs that are in DIR and named here")
    advanced.add_argument(
        "--unverified", action="store_true", help="also methods whose formula was not read at its source"
    )
    advanced.add_argument(
        "--match-step", action="store_true", help="scale every method's advantages to the size of GRPO's"
    )
    advanced.add_argument(
        "--frontier", metavar="LIST", help="methods that trace a frontier, which the others are tested to lie above"
    )
    advanced.add_argument(
        "--other-versions",
        action="store_true",
        help="continue runs also from checkpoints that other versions of packages wrote",
    )
    add_trust(advanced)
    add_time_limit(advanced)
    add_settings(advanced, ADVANCED)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Train what is owed, print the tables and the verdicts, and where the data and the page are."""
    metrics = None if arguments.metrics is None else [name.strip() for name in arguments.metrics.split(",")]
    planned = prepare_comparison(
        arguments.config,
        arguments.methods,
        arguments.seeds,
        overrides=[*arguments.settings, *settings],
        baseline=arguments.baseline,
        metrics=metrics,
        output=arguments.output,
        jobs=arguments.jobs,
        overwrite=arguments.overwrite,
        unverified=arguments.unverified,
        allow_code=arguments.allow_code,
        other_versions=arguments.other_versions,
        match_step=arguments.match_step,
        frontier=[] if arguments.frontier is None else [name.strip() for name in arguments.frontier.split(",")],
    )
    if arguments.dry_run:
        _print_plan(planned)
        return 0

    from relax_rl.cli.comparison_tables import print_verdict
    from relax_rl.cli.progress import JobBars

    started, num_runs, num_owed = time.perf_counter(), len(planned.runs), len(planned.owed)
    if num_owed < num_runs:
        print(f"{num_runs - num_owed} of {num_runs} runs were finished before", file=sys.stderr)
    with JobBars(planned.owed) as bars:
        result = planned.run(bars)
    if num_owed:
        minutes = (time.perf_counter() - started) / 60
        print(f"{result.num_trained} of {num_owed} runs in {minutes:.1f} minutes", file=sys.stderr)
    if result.verdict is not None:
        print_verdict(result.verdict)
    for path in result.data:
        print(f"data: {path}")
    if result.page is not None:
        print(f"report: {result.page}")
    result.raise_failures()
    return 0


def _print_plan(planned: PlannedComparison) -> None:
    runs, owed, batches = planned.runs, planned.owed, planned.batches
    evaluation = runs[0].config.evaluation
    evaluated = (1 + evaluation.before) * len(runs) * evaluation.num_problems * evaluation.num_samples
    print(f"methods   {', '.join(method.label for method in planned.methods)}; compared with {planned.baseline}")
    print(f"seeds     {', '.join(map(str, planned.seeds))}")
    begun = planned.num_begun
    print(
        f"runs      {len(runs)}: {len(runs) - len(owed)} finished, {begun} begun, {len(owed) - begun} to start; "
        f"{planned.jobs} at once"
    )
    print(f"each run  {batches.words().replace(chr(10), chr(10) + ' ' * 10)}")
    print(f"in all    {len(runs) * batches.total_completions:,} completions to train on, {evaluated:,} to evaluate")
    print(f"directory {planned.folder}")
    for notice in planned.notices:
        print(f"notice    {notice}")
    print("dry run: the settings fit together; nothing was written")
