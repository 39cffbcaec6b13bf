r"""All runs of study I or J in one process, one after the other; a finished run is a row of a table, never repeated.

python -m evidence.exploration.runs --runs runs/evidence/exploration --results evidence/results
python -m evidence.exploration.runs --design evidence/exploration/figures.toml --runs runs/evidence/figures
python -m evidence.exploration.runs --seeds 100 --set trainer.learning_rate=3e-3 ...

It may be stopped at any time: the run that was cut off is begun again. One thread computes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evidence.exploration.design import DESIGN, Run, Stage, Start, read_design
from evidence.exploration.scale import Scale
from evidence.exploration.starts import bank, built, digest, evaluated, measured
from evidence.exploration.table import FAILED, finished, read_runs
from evidence.exploration.verdicts import says_yes
from evidence.tables.tables import Rows, write_table
from relax_rl.comparison.discovery import Discovery, discovery_of
from relax_rl.config import TrainConfig, load_config
from relax_rl.config.loading import read_overrides
from relax_rl.errors import RelaxError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.runs import RunDirectory
from relax_rl.tasks.registry import build_task
from relax_rl.training.models import load_model
from relax_rl.workflows.train import train

__all__ = ["main", "perform", "run_all"]

PASS_AT = (4, 16, 64)
LOGGED = {
    "advantage_rms": "advantage/rms",
    "update_rms": "update/rms",
    "kl": "kl",
    "modes_auc": "latent/modes_auc",
    "modes_rand": "latent/modes_rand",
    "anchor_weight": "anchor/weight",
    "anchor_violation": "anchor/violation",
    "anchor_held": "anchor/held",
    "dsd": "latent/dsd",
}
"""Columns that are means of a logged figure over the last quarter of a run, where it is logged."""


def run_all(scale: Scale, say: Callable[[str], None]) -> None:
    """Every run that has no row yet, in the order of the design; a run that cannot be made has a row with its error."""
    torch.set_num_threads(1)
    rows = read_runs(scale.results, scale.design.table)
    starts: set[str] = set()
    for run in scale.design.runs(scale.seeds):
        if _left_out(scale, run.stage, run.method):
            continue
        if run.stage.needs and not says_yes(finished(rows), run.stage.needs):
            continue
        done = {_key(row) for row in rows}
        if run.key in done:
            continue
        own = scale.of(run.start)
        if run.start.name not in starts:
            _begin_with(run.start, rows, own)
            starts.add(run.start.name)
        try:
            rows.append(perform(run, own))
        except RelaxError as error:  # a run that cannot be made is reported as such, and keeps none from the others
            rows.append({**_names(run.key), FAILED: str(error)})
        write_table(scale.table, rows)
        say(f"{time.strftime('%H:%M:%S')} {' / '.join(map(str, run.key))}: {_words(rows[-1])}")


def perform(run: Run, scale: Scale) -> dict[str, Any]:
    """Train and evaluate one run, and give its row; of its folder the settings, figures and evaluations are kept."""
    folder = scale.runs / run.stage.study / run.start.folder / run.method.replace(" ", "_") / f"seed{run.seed}"
    settings = settings_of(run, scale, folder)
    begun = time.process_time()
    model, tokenizer = load_model(settings.model)
    train(settings, model=model, tokenizer=tokenizer, overwrite=True)
    directory = RunDirectory.open(folder)
    # Not that of the run itself, which fits a dictionary and measures dispersion, for as long as the rest takes.
    result = evaluated(model, tokenizer, run.start, scale)
    result.save(directory.evaluations / "after.json")
    row = {
        **_names(run.key),
        "updates": settings.trainer.max_steps,
        "seconds": time.process_time() - begun,
        **metrics_of(result),
        **_logged(directory.read_metrics()),
        **_discovered(directory, settings),
    }
    for heavy in (directory.completions, directory.checkpoints, *folder.glob("*.safetensors")):
        shutil.rmtree(heavy) if heavy.is_dir() else heavy.unlink()
    return row


def settings_of(run: Run, scale: Scale, folder: Path) -> TrainConfig:
    """Resolved settings: those of all runs, those of the start, and the method's."""
    objective = dict(run.stage.methods[run.method])
    if run.method not in run.stage.unmatched:
        objective["match_rms"] = True
    if run.stage.bank:
        objective["bank"] = str(bank(run.start, scale))
    own = {
        "model": str(built(run.start, scale)),
        "task": dict(run.start.task),
        "evaluation.split": run.start.split,
        "objective": objective,
        "seed": run.seed,
        "output": str(folder),
    }
    return load_config(scale.settings, own)


def metrics_of(result: EvaluationResult) -> dict[str, float]:
    """What is kept of an evaluation."""
    metrics = {name: estimate.value for name, estimate in result.metrics.items()}
    names = ["mean@1", *(f"pass@{k}" for k in PASS_AT), *(f"modes@{k}" for k in PASS_AT)]
    names += ["effective_modes", "top_mode", "entropy", "length", "truncated"]
    variants = {name: result.breakdown[name].value for name in ("worst", "robustness") if name in result.breakdown}
    return {name: metrics[name] for name in names if name in metrics} | variants


def _logged(rows: list[dict[str, Any]]) -> dict[str, float]:
    last = rows[-max(1, len(rows) // 4) :]
    found: dict[str, float] = {}
    for column, name in LOGGED.items():
        values = [row[name] for row in last if isinstance(row.get(name), int | float) and math.isfinite(row[name])]
        if values:
            found[column] = float(np.mean(values))
    return found


def _discovered(run: RunDirectory, settings: TrainConfig) -> dict[str, float]:
    """When the first reward came, and on how many problems: of a muted task, on those that need the sign."""
    task = build_task(settings.task.name, **settings.task.options)
    problems = task.problems(settings.train_split, settings.train_problems, settings.seed)
    hard = {problem.id for problem in problems if problem.columns.get("needs_operator", True)}
    found: Discovery = discovery_of(
        (step, [row for row in run.read_completions(step) if row["problem_id"] in hard])
        for step in run.completion_steps()
    )
    # One more than the last update stands for "not in this run".
    first = settings.trainer.max_steps + 1 if found.first_reward is None else found.first_reward
    return {"first_reward": first, "discovered": found.problems}


def _begin_with(start: Start, rows: Rows, scale: Scale) -> None:
    """Append what a start reaches, or make sure that the runs in the table began with the same weights."""
    beginning = ("start", start.name, "start", 0)
    weights = digest(start, scale)
    known = next((row for row in rows if _key(row) == beginning), None)
    if known is None:
        rows.append({**_names(beginning), "updates": 0, **metrics_of(measured(start, scale)), "weights": weights})
    elif known.get("weights") != weights:
        raise SystemExit(
            f"The runs in {scale.table} began with other weights of the start {start.name!r} "
            f"({known.get('weights', 'unknown')}) than {start.model or scale.runs / 'starts' / start.folder} has "
            f"({weights}). Put the policy of those runs there, or remove the rows of this start to run them again."
        )


def _left_out(scale: Scale, stage: Stage, method: str) -> bool:
    """What a miniature leaves out: all but the first methods of a stage, and all but the first stage of a study."""
    if scale.most_methods is None:
        return False
    first = next(other for other in scale.design.stages if other.study == stage.study)
    return stage is not first or list(stage.methods).index(method) >= scale.most_methods


def _names(key: tuple[str, str, str, int]) -> dict[str, Any]:
    return dict(zip(("study", "start", "method", "seed"), key, strict=True))


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return row["study"], row["start"], row["method"], int(row["seed"])


def _words(row: Mapping[str, Any]) -> str:
    if FAILED in row:
        return row[FAILED]
    shown = ("mean@1", "worst", "pass@16", "pass@64", "modes@16", "entropy", "seconds", "first_reward")
    return json.dumps({name: round(float(row[name]), 3) for name in shown if name in row})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence/exploration"), help="(%(default)s)")
    parser.add_argument("--results", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    parser.add_argument("--design", type=Path, default=DESIGN, help="starts and stages (%(default)s)")
    parser.add_argument("--small", action="store_true", help="a minute of it, on a development seed")
    parser.add_argument("--seeds", help="others than those of the design, with commas between")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all runs")
    arguments = parser.parse_args()
    make = Scale.small if arguments.small else Scale
    scale = make(read_design(arguments.design), arguments.runs, arguments.results)
    changes = read_overrides([f"--{change}" for change in arguments.set])
    seeds = tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else scale.seeds
    scale = replace(scale, seeds=seeds, changes={**scale.changes, **changes})
    run_all(scale, lambda sentence: print(sentence, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
