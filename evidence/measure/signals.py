"""Study G, first half: which latent signal tells the completions of a group apart?

python -m evidence.measure.signals --out runs/evidence --size small --seed 100

Screens signals on sampled completions, without training: rank correlations over problems, raw and given length, with
the share of distinct answers and of distinct completions and the entropy. Goes to OUT/g_screen.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evidence.measure.associations import association
from evidence.measure.completions import Rollout, sample
from evidence.measure.what_dsd_is import fit
from evidence.tables.tables import Rows, write_table
from relax_rl.koopman import snapshot_pairs
from relax_rl.koopman.geometry import effective_rank, log_det_diversity, stable_rank
from relax_rl.koopman.operators.fits import ridge_operator
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.rewards.countdown import committed_expression

SIZES = {"small": (64, 16), "full": (256, 32)}
RIDGE = 1e-2
"""Of the operator of one completion, relative; without it the spectra of 50 tokens are mostly noise."""

NUM_CORRECT = 4
"""Correct completions of a problem that are compared; problems with fewer take no part."""

Signal = Callable[[list[Tensor], list[Tensor]], float]
"""(lifted trajectories, hidden-state trajectories) of one set of completions -> how diverse they are."""


def spectral_distance(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Mean pairwise 1-Wasserstein distance between the completions' eigenvalues."""
    distances = spectral_wasserstein_matrix([spectrum(row) for row in lifted])
    return float(distances.sum() / (len(lifted) * (len(lifted) - 1)))


def spectrum(lifted: Tensor) -> Tensor:
    """Eigenvalues (F,) of the ridge operator of one lifted trajectory (T, F)."""
    pairs = snapshot_pairs(torch.ones(1, len(lifted), dtype=torch.bool))
    statistics = gram_statistics(lifted.unsqueeze(0), pairs)
    return torch.linalg.eigvals(ridge_operator(statistics, RIDGE, relative=True).matrix)[0]


def lifted_means(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Log-determinant diversity of the mean lifted states, centred on those of the set."""
    return mean_diversity(lifted)


def state_means(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Log-determinant diversity of the mean hidden states, centred on those of the set."""
    return mean_diversity(states)


def mean_diversity(trajectories: list[Tensor]) -> float:
    means = torch.stack([row.double().mean(0) for row in trajectories])
    centred = means - means.mean(0)
    # Lengths matter here: unit vectors of a centred set point in all directions, however close the set lies.
    return float(log_det_diversity(centred, unit=False))


def group_effective_rank(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Effective rank of the mean hidden states of the set."""
    return float(effective_rank(torch.stack([row.mean(0) for row in states])))


def mean_effective_rank(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Mean over the set of each completion's own effective rank (VERL's breadth)."""
    return float(np.mean([float(effective_rank(row)) for row in states]))


def mean_stable_rank(lifted: list[Tensor], states: list[Tensor]) -> float:
    """Mean over the set of each completion's own stable rank."""
    return float(np.mean([float(stable_rank(row)) for row in states]))


SIGNALS: dict[str, Signal] = {
    signal.__name__: signal
    for signal in (
        spectral_distance,
        lifted_means,
        state_means,
        group_effective_rank,
        mean_effective_rank,
        mean_stable_rank,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=100, help="of the sampling (%(default)s)")
    arguments = parser.parse_args()
    num_problems, num_samples = SIZES[arguments.size]
    rollout = sample("tiny", num_problems, num_samples, 96, seed=arguments.seed)
    write_table(arguments.out / "g_screen.csv", screen(rollout))


def screen(rollout: Rollout) -> Rows:
    """Every signal, over all completions of a problem and over its correct ones, against what it should stand for."""
    found, entropies = rollout.states()
    states = [row[-1] for row in found]
    dictionary = fit(states, 16)
    lifted = [dictionary(row) for row in states]
    entropy = np.array([float(row.mean()) for row in entropies]).reshape(rollout.correct.shape)
    rows: Rows = []
    for scope in ("all", "correct"):
        members = [torch.ones_like(row) if scope == "all" else first_of(row) for row in rollout.correct]
        targets, lengths = outcomes(rollout, members, entropy)
        for name, signal in SIGNALS.items():
            values = by_problem(signal, members, lifted, states)
            for target, outcome in targets.items():
                measured = association(values, outcome, lengths, np.arange(len(values)))
                rows.append({"signal": name, "scope": scope, "target": target, **measured})
    return rows


def first_of(chosen: Tensor, count: int = NUM_CORRECT) -> Tensor:
    """The first ``count`` of those chosen, or none: sets of one size, since most signals grow with the size."""
    kept = chosen & (chosen.cumsum(0) <= count)
    return kept if int(kept.sum()) == count else torch.zeros_like(kept)


def by_problem(signal: Signal, members: list[Tensor], lifted: list[Tensor], states: list[Tensor]) -> np.ndarray:
    """The signal of each problem's chosen completions; NaN where fewer than three are long enough."""
    values, start = [], 0
    for chosen in members:
        rows = [start + int(i) for i in chosen.nonzero().flatten() if len(states[start + int(i)]) > 20]
        start += len(chosen)
        enough = len(rows) >= 3
        values.append(signal([lifted[i] for i in rows], [states[i] for i in rows]) if enough else float("nan"))
    return np.array(values)


def outcomes(rollout: Rollout, members: list[Tensor], entropy: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a signal of diversity should go with, as shares of the chosen completions, and their mean length."""
    solutions, texts, entropies, lengths = [], [], [], []
    for row, chosen, own in zip(rollout.completions, members, entropy, strict=True):
        picked = [one for one, keep in zip(row, chosen, strict=True) if keep]
        count = max(len(picked), 1)
        solutions.append(len({committed_expression(one.text) for one in picked}) / count)
        texts.append(len({one.text for one in picked}) / count)
        entropies.append(own[chosen.numpy()].mean() if picked else np.nan)
        lengths.append(np.mean([one.num_tokens for one in picked]) if picked else np.nan)
    targets = {"distinct_answers": solutions, "distinct_completions": texts, "entropy": entropies}
    return {name: np.array(values) for name, values in targets.items()}, np.array(lengths)


if __name__ == "__main__":
    main()
