"""What the methods of study J reach, and their differences to GRPO, paired by seed.

python -m evidence.exploration.paired --results evidence/results

prints two tables in Markdown and writes j_methods.csv. The tests are paired t tests over the seeds that both methods
have, corrected by Holm over the methods within each measure. All runs must have made the same number of updates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from evidence.exploration.design import J_DESIGN, read_design
from evidence.exploration.table import read_runs
from evidence.tables.page import answered, paired_by_seed
from evidence.tables.tables import Rows, methods_of, read_table, write_table
from relax_rl.statistics.seeded_means import SeededMean, holm, seeded_mean

__all__ = ["BASELINE", "DESCRIBED", "MEASURES", "compared", "gain", "paired"]

BASELINE = "grpo"
MEASURES = ("mean@1", "worst")
"""The two primary measures: average over all variants, and the share of questions right in all of them."""

DESCRIBED = ("pass@16", "robustness", "entropy", "update_rms")
"""Means beside them that no test is made of; the last is the size of an update, as root mean square."""


def compared(rows: Rows) -> Rows:
    """The rows of j_methods.csv: tests of both measures, the gain of the baseline, and what is described.

    Raises:
        SystemExit: the runs made different numbers of updates.
    """
    updates = sorted({int(row["updates"]) for row in rows if row["study"] != "start" and "updates" in row})
    if len(updates) > 1:
        sys.exit(f"runs of {updates[0]} and of {updates[-1]} updates cannot be compared; make them again")
    found = [row for metric in MEASURES for row in paired(rows, metric)]
    if (learned := gain(rows)) is not None:
        seeds = len(_by_seed(rows, MEASURES[0])[BASELINE])
        found.append(_tested({"method": BASELINE, "metric": "gain", "seeds": seeds, "value": learned.value}, learned))
    for metric in DESCRIBED:
        found += [_described(method, metric, runs) for method, runs in _by_seed(rows, metric).items()]
    return found


def paired(rows: Rows, metric: str) -> Rows:
    """A row for each method: its mean over seeds, and its difference to the baseline with interval and p-values."""
    runs = _by_seed(rows, metric)
    found: Rows = []
    for method, values in runs.items():
        row = _described(method, metric, values)
        seeds = sorted(set(values) & set(runs.get(BASELINE, {})))
        if method != BASELINE and len(seeds) > 1:
            test = _mean([values[seed] - runs[BASELINE][seed] for seed in seeds])
            row = _tested(row, test) | {"p": test.p_value}
        found.append(row)
    tested = [row for row in found if "p" in row]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["corrected_p"] = corrected
    return found


def gain(rows: Rows) -> SeededMean | None:
    """How much GRPO gains in average over the start, with its interval over seeds; None with fewer than two seeds."""
    start = next((float(row["mean@1"]) for row in rows if row["study"] == "start"), None)
    values = list(_by_seed(rows, "mean@1").get(BASELINE, {}).values())
    return None if start is None or len(values) < 2 else _mean([value - start for value in values])


def _described(method: str, metric: str, runs: dict[int, float]) -> dict[str, Any]:
    return {"method": method, "metric": metric, "seeds": len(runs), "value": float(np.mean(list(runs.values())))}


def _tested(row: dict[str, Any], found: SeededMean) -> dict[str, Any]:
    return row | {"difference": found.value, "difference_low": found.low, "difference_high": found.high}


def _by_seed(rows: Rows, metric: str) -> dict[str, dict[int, float]]:
    own = [row for row in rows if row["study"] != "start" and metric in row]
    return {
        method: {int(row["seed"]): float(row[metric]) for row in own if row["method"] == method}
        for method in methods_of(own)
    }


def _mean(values: list[float]) -> SeededMean:
    found = seeded_mean([[value] for value in values])
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    arguments = parser.parse_args()
    table = arguments.results / "j_methods.csv"
    write_table(table, compared(read_runs(arguments.results, read_design(J_DESIGN).table)))
    print(paired_by_seed(read_table(table)))
    print(answered(read_table(table)))


if __name__ == "__main__":
    main()
