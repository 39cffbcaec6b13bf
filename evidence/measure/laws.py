"""Study E: R = -a exp(H) + b, fitted to the start of a run and held against the rest, and to the other method.

python -m evidence.measure.laws --curves evidence/results/e_curves.csv --out evidence/results

writes e_laws.csv, a row a fit, and e_residuals.csv, a row a method: how far its runs lie above the law of the baseline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from evidence.tables.tables import Rows, read_table, write_table
from relax_rl.analysis import fit_entropy_law
from relax_rl.errors import DataError

START, BLOCK = 0.15, 8
"""Share of a run's rollout batches that the law is fitted to, and batches whose mean is predicted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=Path("evidence/results/e_curves.csv"), help="(%(default)s)")
    parser.add_argument("--name", default="e", help="before the file's name (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("evidence/results"), help="(%(default)s)")
    arguments = parser.parse_args()
    fits = laws(read_table(arguments.curves))
    write_table(arguments.out / f"{arguments.name}_laws.csv", fits)
    write_table(arguments.out / f"{arguments.name}_residuals.csv", residuals(fits))


def laws(curves: Rows, baseline: str = "grpo") -> Rows:
    """One row a seed, method and fit: of the start of a run, of all of it, and of the baseline's for another method.

    A run of the baseline is held against the law of the next seed's, which says what a residual of that size is worth.
    """
    rows: Rows = []
    for seed in dict.fromkeys(row["seed"] for row in curves):
        runs = {
            method: run_of(curves, method, seed)
            for method in dict.fromkeys(row["method"] for row in curves if row["seed"] == seed)
        }
        for method, (entropy, reward) in runs.items():
            start = round(START * len(reward))
            name = {"seed": int(seed), "method": method}
            rows.append(name | {"fit": "start"} | held_against(entropy, reward, slice(None, start), slice(start, None)))
            rows.append(name | {"fit": "whole"} | held_against(entropy, reward, slice(None), slice(None)))
            if baseline not in runs:
                continue
            if method != baseline:
                rows.append(name | {"fit": f"whole of {baseline}"} | residual_of(runs[baseline], (entropy, reward)))
            elif (other := next_seed(curves, seed)) != seed:
                law = run_of(curves, baseline, other)
                rows.append(name | {"fit": f"whole of {baseline}, seed {other:.0f}"} | residual_of(law, runs[method]))
    return rows


def residuals(fits: Rows) -> Rows:
    """Mean over seeds of each method's residual from the baseline's law, with a t interval and the p of being 0."""
    found: dict[str, list[float]] = {}
    for row in fits:
        if "residual" in row:
            found.setdefault(row["method"], []).append(row["residual"])
    rows: Rows = []
    for method, values in found.items():
        row = {"method": method, "seeds": len(values), "residual": float(np.mean(values))}
        if len(values) > 1:
            tested = stats.ttest_1samp(values, 0.0)
            interval = tested.confidence_interval(0.95)
            row |= {"low": float(interval.low), "high": float(interval.high), "p": float(tested.pvalue)}  # pyright: ignore[reportAttributeAccessIssue]
        rows.append(row)
    return rows


def next_seed(curves: Rows, seed: float) -> float:
    """The seed after this one, and the first after the last."""
    seeds = list(dict.fromkeys(row["seed"] for row in curves))
    return seeds[(seeds.index(seed) + 1) % len(seeds)]


def run_of(curves: Rows, method: str, seed: float) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and reward of a run's rollout batches, in their order."""
    points = [(row["entropy"], row["reward"]) for row in curves if row["method"] == method and row["seed"] == seed]
    entropy, reward = np.array(points, dtype=np.float64).T
    return entropy, reward


def held_against(entropy: np.ndarray, reward: np.ndarray, fitted: slice, rest: slice) -> dict:
    """The law of some batches, and its error on means of the others; or why there is none."""
    try:
        law = fit_entropy_law(entropy[fitted], reward[fitted])
    except DataError as error:
        return {"refused": str(error)}
    errors = blocks(law.predict(entropy[rest]) - reward[rest])
    low, high = law.intervals["ceiling"]
    return {
        "a": law.a,
        "b": law.b,
        "ceiling": law.ceiling,
        "ceiling_low": low,
        "ceiling_high": high,
        "explained": law.explained,
        "absolute_error": float(np.abs(errors).mean()),
        "stays_error": float(np.abs(blocks(reward[fitted].mean() - reward[rest])).mean()),
    }


def residual_of(baseline: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict:
    """How far another method's rewards lie above the law of the baseline's whole run, on average."""
    try:
        law = fit_entropy_law(*baseline)
    except DataError as error:
        return {"refused": str(error)}
    return {"residual": float((other[1] - law.predict(other[0])).mean())}


def blocks(values: np.ndarray) -> np.ndarray:
    """Means over BLOCK neighbours; what does not fill a block at the end is left out."""
    whole = len(values) // BLOCK * BLOCK
    return values[:whole].reshape(-1, BLOCK).mean(1)


if __name__ == "__main__":
    main()
