"""Wide snapshots: DMD of 2048 features x 512 snapshots in float32, rank 50, against PyDMD.

python benchmarks/suite.py --only wide

PyDMD is optional, and no dependency of this package: `pip install pydmd` beside it, in an environment of its own.
Without it, ours is timed against the singular value decomposition that PyDMD rests on. Each row notes the largest
distance of its 50 eigenvalues from those of numpy in float64, on the same float32 numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from relax_rl.koopman.spectra.dmd import dmd

FEATURES, SNAPSHOTS, RANK = 2048, 512, 50
TARGETS = {'dmd, solver "auto"': 0.5}


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
        f'dmd, solver "{solver}"': lambda solver=solver: dmd(tensor, rank=RANK, solver=solver).eigenvalues.numpy()
        for solver in ("auto", "svd", "randomised")
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pydmd import DMD  # pyright: ignore[reportMissingImports]
    except ImportError:
        chosen["numpy SVD, float32"] = lambda: _eigenvalues_of_svd(snapshots)
        return chosen
    columns = np.ascontiguousarray(snapshots.T)
    chosen["PyDMD, float32"] = lambda: np.asarray(DMD(svd_rank=RANK).fit(columns).eigs)
    chosen["PyDMD, float64"] = lambda: np.asarray(DMD(svd_rank=RANK).fit(columns.astype(np.float64)).eigs)
    return chosen


def _eigenvalues_of_svd(snapshots: np.ndarray) -> np.ndarray:
    left, scales, right = np.linalg.svd(snapshots[:-1].T, full_matrices=False)
    return np.linalg.eigvals(left[:, :RANK].T @ snapshots[1:].T @ right[:RANK].T / scales[:RANK])


def rows(effort: Effort) -> Iterator[Row]:
    """Each solver against the rival, and how far its eigenvalues are from numpy's in float64."""
    snapshots = travelling_waves(seed=0)
    exact = reference(snapshots)
    candidates = methods(snapshots)
    values: dict[str, object] = {}
    times = in_turn(candidates, effort.rounds, values)
    rival = next(name for name in candidates if not name.startswith("dmd"))
    for name, found in times.items():
        if name != rival:
            error = float(np.abs(np.asarray(values[name])[:, None] - exact).min(1).max())
            note = f"{error:.0e} from float64"
            yield row_of_times(name, found, times[rival], rival, target=TARGETS.get(name), note=note)
