"""Study D: how far an estimator is driven by its own reward, and by what.

python -m evidence.measure.hacking runs/evidence/hacking --out evidence/results

reads the runs of `relax compare evidence/training.toml --methods evidence/methods/hacking.toml`, samples completions of
each trained policy and of the one they started from, and measures them under the dictionary of the run: every
estimator, the heterogeneity that held-out pairs show, and whatever else could have moved a dispersion.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from evidence.measure.completions import Rollout, sample
from evidence.measure.what_dsd_is import ESTIMATORS, dispersion
from evidence.tables.collect import finished_runs
from evidence.tables.tables import Rows, write_table
from relax_rl.koopman import KoopmanDictionary
from relax_rl.koopman.dispersion.controls import held_out_heterogeneity
from relax_rl.koopman.dispersion.estimators import ROBUST_WINDOW
from relax_rl.runs import RunDirectory
from relax_rl.training.objective_state import DICTIONARY_FILE

NUM_PROBLEMS, NUM_SAMPLES, LENGTH = 96, 16, 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--name", default="d", help="before the file's name (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS, help="(%(default)s)")
    arguments = parser.parse_args()
    write_table(arguments.out / f"{arguments.name}_measured.csv", measured_runs(arguments.folder, arguments.problems))


def measured_runs(folder: Path, num_problems: int) -> Rows:
    """One row a trained policy, and one for the start under each dictionary."""
    rows: Rows = []
    seen: set[str] = set()
    for run in finished_runs(folder):
        checkpoint = RunDirectory.open(run.path).latest_checkpoint((DICTIONARY_FILE,))
        if checkpoint is None:
            raise SystemExit(f"{run.path} has no checkpoint with a dictionary; run the comparison once more.")
        dictionary = KoopmanDictionary.load(checkpoint / DICTIONARY_FILE)
        policies = {run.method: str(checkpoint)}
        if dictionary.digest not in seen:
            policies = {"start": str(run.config["model"]), **policies}
        seen.add(dictionary.digest)
        for method, policy in policies.items():
            rollout = sample(policy, num_problems, NUM_SAMPLES, LENGTH, seed=run.seed)
            rows.append({"method": method, "seed": run.seed, **measured(rollout, dictionary)})
    return rows


def measured(rollout: Rollout, dictionary: KoopmanDictionary) -> dict:
    """Means over the completions of one policy; of a dispersion over those for which it is defined."""
    found, entropies = rollout.states()
    states = [row[-1] for row in found]
    lifted = [dictionary(row) for row in states]
    row: dict = {"dictionary": dictionary.digest[:12]}
    for estimator in ESTIMATORS:
        values = dispersion(lifted, estimator)
        row[estimator] = float(values.values[values.is_defined].mean())
        row[f"{estimator}_defined"] = values.defined_share
    printed = dispersion(lifted, "paper")
    radius = printed.spectral_radius[printed.is_defined]
    long_enough = [one for one in lifted if len(one) > ROBUST_WINDOW]
    judged = [float(held_out_heterogeneity(one.unsqueeze(0))) for one in long_enough]
    head = rollout.model.get_output_embeddings()
    with torch.no_grad():
        logits = torch.cat([head(one).std(-1) for one in states])
    return row | {
        "held_out": float(np.mean(judged)),
        "radius_mean": float(radius.mean()),
        "radius_max": float(radius.max()),
        "condition_median": float(printed.condition[printed.is_defined].median()),
        "residual_median": float(printed.median_residual[printed.is_defined].median()),
        "spurious_share": float(printed.spurious_share[printed.is_defined].mean()),
        "state_norm": float(torch.cat([one.norm(dim=-1) for one in states]).mean()),
        "logit_deviation": float(logits.mean()),
        "length": float(np.mean([len(one) for one in states])),
        "entropy": float(torch.cat(entropies).mean()),
        "mean@1": float(rollout.correct.double().mean()),
    }


if __name__ == "__main__":
    main()
