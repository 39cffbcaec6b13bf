"""Whether dispersion notices which image was read: `relax spectrum --images` on the embedded policy, repeated.

python -m evidence.measure.sight --out evidence/results

128 questions of the task figures, level 1, one drawing each. Each seed draws other completions; each size of the
dictionary is fitted on them anew. Completions have some 15 tokens, too few for the robust estimator. Run it again
after a stop and it goes on: what is in the table is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from evidence.tables.tables import Rows, read_table, write_table
from relax_rl.evaluation.sight.result import SightResult
from relax_rl.latent.sites import FINAL_NORM
from relax_rl.statistics.intervals import Estimate
from relax_rl.tasks.figures import FiguresTask
from relax_rl.training.models import load_model
from relax_rl.workflows.spectrum_images import spectrum_images
from relax_rl.workflows.spectrum_texts import Reading

SEEDS = (0, 1, 2, 3, 4)
OBSERVABLES = (3, 5, 8)
ESTIMATORS = ("paper", "singular")
NUM_PROBLEMS = 128


def sight_rows(sight: SightResult, seed: int, observables: int) -> Iterator[dict[str, Any]]:
    """A row for each condition but the true image."""
    for condition in sight.conditions[1:]:
        (site,) = condition.sites
        row: dict[str, Any] = {"seed": seed, "observables": observables, "condition": condition.name}
        row |= {"problems": condition.num_problems, **_numbers("kl", condition.kl)}
        row |= _numbers("same_choice", condition.same_choice) | _numbers("distance", site.distance)
        row |= _numbers("error_change", site.error_change)
        for estimator in ESTIMATORS:
            row |= _numbers(f"{estimator}_change", site.dsd_change[estimator])
            true = sight.conditions[0].sites[0].dsd[estimator]
            row[f"{estimator}_true"] = float("nan") if true is None else true.value
        yield row


def _numbers(name: str, estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return {}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="folder of the table (%(default)s)")
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS, help="(%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model("figures")
    task = FiguresTask(level=1, redrawn=0, others=0)
    table = arguments.out / "images.csv"
    rows: Rows = read_table(table) if table.is_file() else []
    done = {(int(row["seed"]), int(row["observables"])) for row in rows}
    for seed in SEEDS:
        for observables in OBSERVABLES:
            if (seed, observables) in done:
                continue
            result = spectrum_images(
                model,
                task,
                Reading(tokenizer=processor, num_problems=arguments.problems, seed=seed),
                sites=(FINAL_NORM,),
                estimators=ESTIMATORS,
                num_observables=observables,
            )
            rows += sight_rows(result.sight, seed, observables)
            write_table(table, rows)


if __name__ == "__main__":
    main()
