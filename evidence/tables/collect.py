"""What is kept of a comparison's runs: a row a method and metric, a row a run, a row a rollout batch.

python -m evidence.tables.collect runs/evidence/head_to_head --name b --out evidence/results

writes b_methods.csv, b_runs.csv and b_curves.csv: all that the figures and tables of a training study are made from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from evidence.tables.tables import Rows, write_table
from relax_rl.comparison.contents import Contents
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import RunRecord, read_runs
from relax_rl.comparison.tables import METHOD_COLUMNS, method_rows
from relax_rl.config import batch_arithmetic
from relax_rl.runs import RunDirectory

PASS_AT = (4, 16, 64)
CURVES = {
    "reward": "reward",
    "entropy": "entropy",
    "dsd": "latent/dsd",
    "length": "completions/mean_length",
    "grad_norm": "grad_norm",
    "clipped": "clip_ratio/region_mean",
}
"""Columns of the curves, and the metrics of the log that they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--name", required=True, help="of the study, before each file's name")
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    parser.add_argument("--against", metavar="METHOD", help="write the methods alone, compared with this one")
    arguments = parser.parse_args()
    if arguments.against is None:
        collect(arguments.folder, arguments.name, arguments.out)
    else:
        compared = methods(finished_runs(arguments.folder), arguments.against)
        write_table(arguments.out / f"{arguments.name}_methods.csv", compared)


def collect(folder: Path, name: str, out: Path) -> None:
    """Write the three tables of a comparison, of the runs that are finished."""
    runs = finished_runs(folder)
    write_table(out / f"{name}_methods.csv", methods(runs, Contents.read(folder).baseline))
    write_table(out / f"{name}_runs.csv", [summary(run) for run in runs])
    write_table(out / f"{name}_curves.csv", [row for run in runs for row in curve(run)])


def finished_runs(folder: Path) -> list[RunRecord]:
    """The runs of a comparison that are trained and evaluated."""
    return read_runs(*Contents.read(folder).evaluated_runs(folder))


def methods(runs: list[RunRecord], baseline: str) -> Rows:
    """Values after training and differences to the baseline, with p-values corrected for each metric by itself."""
    num_samples = min(run.evaluations["after"].num_samples for run in runs)
    metrics = ["mean@1", *(f"pass@{k}" for k in PASS_AT if k <= num_samples), "entropy", "dsd"]
    compared = compare_methods(runs, baseline, metrics)
    return [dict(zip(METHOD_COLUMNS, row, strict=True)) for row in method_rows(compared)]


def summary(run: RunRecord) -> dict:
    """One run: what it spent, and every metric of its trained policy."""
    result = run.evaluations["after"]
    return {
        "method": run.method,
        "seed": run.seed,
        "updates": len(run.metrics),
        "seconds": run.seconds,
        "tokens": run.tokens,
        **{metric: estimate.value for metric, estimate in result.metrics.items()},
    }


def curve(run: RunRecord) -> Rows:
    """One row a rollout batch: the mean of each metric over its updates, where it was logged at all."""
    updates = batch_arithmetic(RunDirectory.open(run.path).read_config()).updates_per_rollout
    found: dict[int, dict[str, list[float]]] = {}
    for column, key in CURVES.items():
        for step, value in zip(*run.curve(key), strict=True):
            found.setdefault(int(step - 1) // updates, {}).setdefault(column, []).append(value)
    return [
        {"method": run.method, "seed": run.seed, "rollout": batch + 1}
        | {column: float(np.mean(values)) for column, values in columns.items()}
        for batch, columns in sorted(found.items())
    ]


if __name__ == "__main__":
    main()
