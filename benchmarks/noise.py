"""Which estimator for which noise: the table of docs/guides/toolkit.md.

python benchmarks/noise.py          a minute on one core; prints the table

z' = 0.9 R(0.3) z + process noise, seen in 20 features with noise of measurement; the mean modulus of the two
eigenvalues, whose truth is 0.9, and its deviation over 25 seeds. Driven by noise the system is stationary, in one
trajectory; without noise of the process it starts at length 1 and decays, so that it is seen in pieces of 40 snapshots.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from relax_rl.koopman import delay_embedding, dmd, optimised_dmd, subspace_dmd

MODULUS, ANGLE, FEATURES = 0.9, 0.3, 20
NOISES = {
    "none": (0.0, 0.0),
    "measurement": (0.0, 0.2),
    "process": (0.1, 0.0),
    "both": (0.1, 0.2),
}
"""Deviation of the noise of the process and of the noise of measurement."""

PIECE = 40
EXPLODED = 2.0
"""A larger mean modulus is left out of the mean, and counted."""

Method = Callable[[list[Tensor]], Tensor]
"""Trajectories (T_k, F) -> the two eigenvalues."""


def trajectories_of(process: float, measurement: float, length: int, seed: int) -> list[Tensor]:
    """`length` snapshots in all."""
    rng = np.random.default_rng(seed)
    features = np.linalg.qr(rng.standard_normal((FEATURES, 2)))[0].T
    sizes = [length] if process else [PIECE] * (length // PIECE)
    return [_trajectory(process, measurement, size, features, rng) for size in sizes]


def _trajectory(
    process: float, measurement: float, length: int, features: np.ndarray, rng: np.random.Generator
) -> Tensor:
    rotation = MODULUS * np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
    states = np.zeros((length, 2))
    states[0] = rng.standard_normal(2)
    states[0] *= process / np.sqrt(1 - MODULUS**2) if process else 1 / np.linalg.norm(states[0])
    for step in range(length - 1):
        states[step + 1] = rotation @ states[step] + process * rng.standard_normal(2)
    return torch.from_numpy(states @ features + measurement * rng.standard_normal((length, FEATURES)))


def _delays(parts: list[Tensor]) -> Tensor:
    """The two eigenvalues of least squares on 8 delays, of rank 2."""
    return dmd(*delay_embedding(parts, None, 8), rank=2).eigenvalues


METHODS: dict[str, Method] = {
    **{
        name: lambda parts, name=name: dmd(parts, rank=2, variant=name).eigenvalues
        for name in ("least_squares", "forward_backward", "total_least_squares", "instrumental")
    },
    "subspace DMD": lambda parts: subspace_dmd(parts, rank=2).eigenvalues,
    "optimised DMD": lambda parts: optimised_dmd(parts, 2).eigenvalues(1.0),
    "least squares, 8 delays": _delays,
}


def mean_modulus(method: Method, noise: tuple[float, float], length: int, seeds: int = 25) -> str:
    """Mean and deviation over seeds of the mean modulus, and how many seeds exploded."""
    found = np.array([float(method(trajectories_of(*noise, length, seed)).abs().mean()) for seed in range(seeds)])
    kept = found[found <= EXPLODED]
    lost = f", {seeds - len(kept)} of {seeds} exploded" if len(kept) < seeds else ""
    return f"{kept.mean():.3f} ± {kept.std():.3f}{lost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=25)
    arguments = parser.parse_args()
    measure = partial(mean_modulus, seeds=arguments.seeds)
    for length in (1000, 80):
        print(f"\n{length} snapshots; true modulus {MODULUS}\n| estimator | " + " | ".join(NOISES) + " |")
        print("|---|" + "---|" * len(NOISES))
        for name, method in METHODS.items():
            cells = [measure(method, noise, length) for noise in NOISES.values()]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
