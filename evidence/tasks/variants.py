"""How a policy does on average over the variants of its problems, and at worst: f_vision_variants.csv.

python -m evidence.tasks.variants runs/evidence/vision --policy runs/evidence/vision_policy --out evidence/results

average   mean@1 over all variants of all problems
worst     of each problem the smallest mean@1 of its variants, averaged over problems
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from evidence.tables.collect import finished_runs
from evidence.tables.tables import write_table
from evidence.tasks.vision import base_of
from relax_rl.evaluation.result import EvaluationResult


def average_and_worst(result: EvaluationResult) -> tuple[float, float]:
    """See above; a problem that could not be scored counts for nothing."""
    scores: dict[str, list[float]] = defaultdict(list)
    for problem in result.per_problem:
        if problem.mean_score is not None:
            scores[base_of(problem.id)].append(problem.mean_score)
    each = [score for of_base in scores.values() for score in of_base]
    return sum(each) / len(each), sum(map(min, scores.values())) / len(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--policy", type=Path, required=True, help="that the runs started from")
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    arguments = parser.parse_args()
    start = json.loads((arguments.policy / "build.json").read_text("utf-8"))
    rows = [{"method": "start", "seed": "", "average": start["average"], "worst": start["worst"]}]
    for run in finished_runs(arguments.folder):
        average, worst = average_and_worst(run.evaluations["after"])
        rows.append({"method": run.method, "seed": run.seed, "average": average, "worst": worst})
    write_table(arguments.out / "f_vision_variants.csv", rows)


if __name__ == "__main__":
    main()
