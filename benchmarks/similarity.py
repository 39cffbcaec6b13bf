"""Similarity of trajectories: how well each measure separates Lorenz systems, and how fast KoopSTD's matrix is.

python benchmarks/similarity.py             the table of docs/reference/similarity.md: silhouettes on 100 clips
python benchmarks/similarity.py --settings  silhouettes of KoopSTD over windows, hops and tapers
python benchmarks/suite.py --only similarity   KoopSTD's matrix against the steps of its released code

The clips are those of KoopSTD's notebook: five Lorenz63 systems, twenty stretches of 20 time units each, standardised.
The systems are chaotic: other rounding (another version of scipy, another machine) gives other clips, and silhouettes
that differ by some 0.02.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from relax_rl.koopman import koopstd_distances
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.koopman.similarity.landscape import silhouette
from relax_rl.koopman.similarity.representation import (
    canonical_correlation,
    linear_cka,
    procrustes_similarity,
    representational_similarity,
)
from relax_rl.koopman.similarity.vector_fields import delay_spectrum

RHO = (10, 20, 152, 220, 75)


# --- clips ---------------------------------------------------------------------------------------------------------


def lorenz_clips(
    rho: Sequence[float] = RHO, num_clips: int = 20, *, stride: int = 10, end: float = 800.0, burn_in: float = 300.0
) -> tuple[Tensor, Tensor]:
    """Standardised clips (len(rho) * num_clips, 20000 / stride, 3) of Lorenz63 systems, and the system of each.

    One run of each system by RK45 with scipy's default tolerances from (-8, 8, 27), states every 0.001; clips of 20
    time units that start at random after the burn-in, standardised, then thinned to every `stride`-th state.
    """
    random = np.random.RandomState(2025)
    length, first = 20_000, round(burn_in / 0.001)
    clips = []
    for value in rho:

        def velocity(_: float, state: np.ndarray, value: float = value) -> list[float]:
            x, y, z = state
            return [10.0 * (y - x), x * (value - z) - y, x * y - 8.0 / 3.0 * z]

        times = np.arange(0.0, end, 0.001)
        states = solve_ivp(velocity, (0.0, end), (-8.0, 8.0, 27.0), method="RK45", t_eval=times).y.T[first:]
        for _ in range(num_clips):
            start = random.randint(0, len(states) - length)
            clip = states[start : start + length]
            clips.append(((clip - clip.mean(0)) / clip.std(0))[::stride])
    return torch.from_numpy(np.stack(clips)), torch.arange(len(rho)).repeat_interleave(num_clips)


# --- separation ----------------------------------------------------------------------------------------------------


def pairwise(similarity: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """1 - similarity of all pairs of a batch (B, T, H), (B, B)."""

    def distances(clips: Tensor) -> Tensor:
        return torch.stack([1.0 - similarity(clip.expand_as(clips), clips) for clip in clips])

    return distances


def delay_distances(order: float, power: float = 1.0) -> Callable[[Tensor], Tensor]:
    def distances(clips: Tensor) -> Tensor:
        spectra = [delay_spectrum(clip, delays=70, rank=6) for clip in clips]
        return spectral_wasserstein_matrix(spectra, order=order) ** power

    return distances


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "KoopSTD, W1": lambda clips: koopstd_distances(clips, window=100, hop=5, rank=6, num_modes=None),
    "KoopSTD, W1, Hann taper": lambda clips: koopstd_distances(
        clips, window=100, hop=5, rank=6, num_modes=None, taper="hann"
    ),
    "delay DMD, W1": delay_distances(1.0),
    "delay DMD, W2": delay_distances(2.0),
    "delay DMD, W2 squared (as in DSA; no metric)": delay_distances(2.0, power=2.0),
    "linear CKA": pairwise(linear_cka),
    "mean canonical correlation": pairwise(canonical_correlation),
    "Procrustes": pairwise(procrustes_similarity),
    "RSA, every 20th state": pairwise(representational_similarity),
}


def print_silhouettes() -> None:
    clips, labels = lorenz_clips()
    print("| distance | silhouette | seconds |\n|---|---|---|")
    for name, measure in MEASURES.items():
        states = clips[:, ::20] if name.startswith("RSA") else clips  # of 2000 states there are 2 million pairs
        start = time.perf_counter()
        distances = measure(states)
        seconds = time.perf_counter() - start
        print(f"| {name} | {float(silhouette(distances, labels)):.3f} | {seconds:.1f} |", flush=True)


def print_settings() -> None:
    print("| stride | window | hop | rectangular | Hann | rectangular, continuous time |\n|---|---|---|---|---|---|")
    for stride in (10, 20):
        clips, labels = lorenz_clips(stride=stride)
        for window in (50, 100, 200):
            for hop in (1, 5, 10):
                cells = []
                settings: list[dict[str, Any]] = [{}, {"taper": "hann"}, {"dt": 0.001 * stride}]
                for more in settings:
                    distances = koopstd_distances(clips, window=window, hop=hop, rank=6, num_modes=None, **more)
                    cells.append(f"{float(silhouette(distances, labels)):.3f}")
                print(f"| {stride} | {window} | {hop} | " + " | ".join(cells) + " |", flush=True)


# --- speed ---------------------------------------------------------------------------------------------------------


def released_form(clips: Tensor, *, window: int, hop: int, rank: int) -> np.ndarray:
    """Distances (B, B) by the steps of the released code, not the paper (docs/reference/similarity.md).

    A transform a channel, padded, frames and frequencies reshaped into each other; the SVD of all of it, in float32; a
    residual for every singular vector, one after the other; the vectors of the largest; and for each pair the
    eigenvalues of both operators again, and a transport of squared distances.
    """
    operators = []
    for clip in clips:
        transforms = [torch.stft(channel, window, hop, normalized=True, return_complex=True) for channel in clip.T]
        stacked = torch.stack(transforms)
        embedded = stacked.reshape(stacked.shape[-1], -1).real.float()
        _, scales, vectors = torch.linalg.svd(embedded.T, full_matrices=False)
        x, y = embedded[:-1, : len(embedded)], embedded[1:, : len(embedded)]
        gram, cross, future = x.T @ x, x.T @ y, y.T @ y
        residuals = []
        for scale, vector in zip(scales, vectors.T, strict=False):
            form = future - scale * cross - scale * cross.T + scale**2 * gram
            residuals.append(((vector @ (form @ vector)).abs() / (vector @ (gram @ vector)).abs()).sqrt())
        kept = vectors.T[:, torch.stack(residuals).topk(rank).indices]
        operators.append(torch.linalg.inv(kept[:-1].T @ kept[:-1]) @ kept[:-1].T @ kept[1:])
    distances = np.zeros((len(clips), len(clips)))
    for i, first in enumerate(operators):
        for j, second in enumerate(operators[:i]):
            left, right = (torch.linalg.eigvals(operator).numpy() for operator in (first, second))
            cost = np.abs(left[:, None] - right[None]) ** 2
            distances[i, j] = distances[j, i] = cost[linear_sum_assignment(cost)].mean()
    return distances


def rows(effort: Effort) -> Iterator[Row]:
    """The steps that correct settings need, and (not among the quick ones) the settings of the code's notebook."""
    for stride, hop in ((10, 5),) if effort.is_quick else ((10, 5), (5, 1)):
        clips, labels = lorenz_clips(stride=stride)
        sides: dict[str, Callable[[], Tensor]] = {
            "released": lambda clips=clips, hop=hop: torch.from_numpy(
                released_form(clips, window=100, hop=hop, rank=6)
            ),
            "ours": lambda clips=clips, hop=hop: koopstd_distances(clips, window=100, hop=hop, rank=6, num_modes=None),
        }
        results: dict[str, Any] = {}
        times = in_turn(sides, effort.rounds, results)
        separation = " and ".join(f"{float(silhouette(results[side], labels)):.3f}" for side in ("ours", "released"))
        yield row_of_times(
            f"KoopSTD of {len(clips)} clips, stride {stride}, hop {hop}",
            times["ours"],
            times["released"],
            "the released steps, in float32",
            target=1 / 6,
            bound="the transform, the products of the short side and their eigendecomposition, all in float64",
            note=f"silhouettes {separation}",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", action="store_true", help="silhouettes of KoopSTD over its settings")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.settings:
        print_settings()
    else:
        print_silhouettes()


if __name__ == "__main__":
    main()
