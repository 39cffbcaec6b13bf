"""Wide snapshots: DMD of 2048 features x 512 snapshots in float32, rank 50, against PyDMD.

    python benchmarks/wide.py

PyDMD is optional, and no dependency of this package: `pip install pydmd` beside it, in an environment of its own.
Without it, ours is timed against the singular value decomposition that PyDMD rests on.

Each method in turn, medians of processor time over the repeats; and the largest distance of its 50 eigenvalues from
those of numpy in float64, on the same float32 numbers.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from relax_rl.koopman.spectra.dmd import dmd

FEATURES, SNAPSHOTS, RANK = 2048, 512, 50


def travelling_waves(seed: int) -> np.ndarray:
    """(T, H) float32: 25 damped waves of random shapes, and noise of a hundredth of the smallest amplitude."""
    rng = np.random.default_rng(seed)
    values = np.linspace(0.9, 1.0, RANK // 2) * np.exp(1j * np.linspace(0.1, 2.8, RANK // 2))
    shapes = rng.standard_normal((RANK // 2, FEATURES)) + 1j * rng.standard_normal((RANK // 2, FEATURES))
    amplitudes = rng.uniform(1, 3, RANK // 2)
    waves = (values ** np.arange(SNAPSHOTS)[:, None] * amplitudes) @ shapes
    return (waves.real + 0.01 * rng.standard_normal((SNAPSHOTS, FEATURES))).astype(np.float32)


def reference(snapshots: np.ndarray) -> np.ndarray:
    """Eigenvalues by numpy in float64, as the formula has it."""
    x, y = snapshots[:-1].astype(np.float64), snapshots[1:].astype(np.float64)
    left, scales, right = np.linalg.svd(x, full_matrices=False)
    return np.linalg.eigvals(left[:, :RANK].T @ y @ right[:RANK].T / scales[:RANK])


def methods(snapshots: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Each returns eigenvalues."""
    tensor = torch.from_numpy(snapshots)
    chosen: dict[str, Callable[[], np.ndarray]] = {
        f"ours, solver={solver!r}": lambda solver=solver: dmd(tensor, rank=RANK, solver=solver).eigenvalues.numpy()
        for solver in ("auto", "svd", "randomised")
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pydmd import DMD  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("PyDMD is not here (`pip install pydmd`); its singular value decomposition alone stands for it.\n")
        chosen["numpy SVD, float32"] = lambda: _eigenvalues_of_svd(snapshots)
        return chosen
    columns = np.ascontiguousarray(snapshots.T)
    chosen["PyDMD, float32"] = lambda: np.asarray(DMD(svd_rank=RANK).fit(columns).eigs)
    chosen["PyDMD, float64"] = lambda: np.asarray(DMD(svd_rank=RANK).fit(columns.astype(np.float64)).eigs)
    return chosen


def _eigenvalues_of_svd(snapshots: np.ndarray) -> np.ndarray:
    left, scales, right = np.linalg.svd(snapshots[:-1].T, full_matrices=False)
    return np.linalg.eigvals(left[:, :RANK].T @ snapshots[1:].T @ right[:RANK].T / scales[:RANK])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    snapshots = travelling_waves(seed=0)
    exact = reference(snapshots)
    candidates = methods(snapshots)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    errors: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for name, method in candidates.items():
            start = time.process_time()
            values = method()
            seconds[name].append(time.process_time() - start)
            errors[name] = float(np.abs(values[:, None] - exact).min(1).max())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rival = next(name for name in candidates if not name.startswith("ours"))
    print(f"{FEATURES} features x {SNAPSHOTS} snapshots, float32, rank {RANK}, {arguments.threads} threads, ", end="")
    print(f"medians of {arguments.repeats}; times as shares of {rival}\n")
    print(f"{'':28s} {'ms':>8s} {'share':>7s} {'from float64':>14s}")
    for name, median in medians.items():
        print(f"{name:28s} {1e3 * median:8.1f} {median / medians[rival]:7.2f} {errors[name]:14.1e}")


if __name__ == "__main__":
    main()
