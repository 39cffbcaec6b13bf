r"""The strengths that a search on a development seed chose, as a file of methods for the study itself.

python -m evidence.tables.choose runs/evidence/search --out evidence/methods/head_to_head.toml
python -m evidence.tables.choose runs/evidence/signals_search --out evidence/methods/signals.toml \
    --beside evidence/methods/head_to_head.toml --keep grpo,entropy_bonus

Labels of a search are METHOD: STRENGTH, the published strength of a method first. The rule is that of the plan
(docs/research/evidence/plan.md): the largest sum of mean@1 and pass@16, and the published
strength where it is within MARGIN.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evidence.tables.collect import finished_runs
from evidence.tables.tables import Rows, write_table
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import RunRecord

MARGIN = 0.005
CRITERION = ("mean@1", "pass@16")


def scores(runs: list[RunRecord]) -> dict[str, dict[str, float]]:
    """By label: each part of the criterion, mean over seeds and problems."""
    compared = compare_methods(runs, metrics=CRITERION)
    return {row.method: {name: row.values[name].value for name in CRITERION} for row in compared.methods}


def chosen(scored: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """By method: the label of its strength. The first label of a method is the published strength."""
    labels: dict[str, list[str]] = {}
    for label in scored:
        labels.setdefault(label.partition(":")[0], []).append(label)
    found = {}
    for method, own in labels.items():
        sums = {label: sum(scored[label].values()) for label in own}
        best = max(own, key=lambda label: sums[label])
        found[method] = own[0] if sums[own[0]] >= sums[best] - MARGIN else best
    return found


def methods_file(found: Mapping[str, str], runs: list[RunRecord], beside: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML of the chosen methods, each with the objective of its run, after those they are to stand beside."""
    lines = ["# Written by evidence/tables/choose.py: the strengths that a search on a development seed chose."]
    objectives = {run.method: run.config["objective"] for run in runs}
    chosen_ones = {method: ("", given["objective"]) for method, given in beside.items()}
    chosen_ones |= {method: (label.partition(": ")[2], objectives[label]) for method, label in found.items()}
    for method, (strength, objective) in chosen_ones.items():
        inline = ", ".join(f"{key} = {json.dumps(value)}" for key, value in objective.items() if value is not None)
        lines += [
            "",
            *([f"# {strength}"] if strength else []),
            f"[{json.dumps(method)}]",
            f"objective = {{ {inline} }}",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="folder of the comparison")
    parser.add_argument("--out", type=Path, required=True, help="file of methods to write")
    parser.add_argument("--table", type=Path, help="CSV of all that was tried")
    parser.add_argument("--beside", type=Path, help="file of methods to take the first ones from")
    parser.add_argument("--keep", default="grpo", metavar="LIST", help="which of them (%(default)s)")
    arguments = parser.parse_args()
    runs = finished_runs(arguments.search)
    scored = scores(runs)
    found = chosen(scored)
    rows: Rows = [{"strength": label, **values, "chosen": label in found.values()} for label, values in scored.items()]
    if arguments.table:
        write_table(arguments.table, rows)
    beside: dict[str, Any] = {"grpo": {"objective": {"name": "grpo"}}}
    if arguments.beside:
        tables = tomllib.loads(arguments.beside.read_text("utf-8"))
        beside = {name: tables[name] for name in arguments.keep.split(",")}
    arguments.out.write_text(methods_file(found, runs, beside), encoding="utf-8")
    for row in rows:
        print(f"{'->' if row['chosen'] else '  '} {row['strength']:36}", *(f"{row[name]:.3f}" for name in CRITERION))


if __name__ == "__main__":
    main()
