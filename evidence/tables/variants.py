"""Average, worst case and robustness of the runs of a comparison on a task with variants.

python -m evidence.tables.variants runs/evidence/figures --name j --out evidence/results

The metrics are those of `relax_rl.evaluation.breakdown`: a question counts as right at worst if all its variants are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from evidence.tables.collect import finished_runs
from evidence.tables.tables import write_table
from relax_rl.comparison.records import RunRecord

MEASURES = ("worst", "robustness")


def variant_rows(runs: Iterable[RunRecord]) -> list[dict[str, object]]:
    """A row for each run. Raises KeyError for a task whose questions have no variants."""
    rows: list[dict[str, object]] = []
    for run in runs:
        result = run.evaluations["after"]
        row: dict[str, object] = {"method": run.method, "seed": run.seed, "average": result.metrics["mean@1"].value}
        rows.append(row | {name: result.breakdown[name].value for name in MEASURES})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--name", required=True, help="the tables begin with it")
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    arguments = parser.parse_args()
    write_table(arguments.out / f"{arguments.name}_variants.csv", variant_rows(finished_runs(arguments.folder)))


if __name__ == "__main__":
    main()
