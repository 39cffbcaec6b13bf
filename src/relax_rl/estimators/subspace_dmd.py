"""Subspace DMD: dynamics that are driven by noise and measured with noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from relax_rl.estimators.spectral import EigenfunctionEstimator
from relax_rl.estimators.trajectories import read_trajectories
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.pairs.snapshots import pack_trajectories
from relax_rl.koopman.spectra.subspace_dmd import subspace_dmd

__all__ = ["SubspaceDMD"]


class SubspaceDMD(EigenfunctionEstimator):
    """Subspace DMD (:func:`relax_rl.koopman.spectra.subspace_dmd.subspace_dmd`): unbiased under both kinds of noise.

    Args:
        rank: directions that the past predicts: a number, a share of the predicted energy in (0, 1), None (all).
        dt: time between two snapshots, for continuous_eigenvalues_.

    Attributes:
        eigenvectors_: (H, R) complex, coefficients of the eigenfunctions. Others: see `SpectralEstimator`.
    """

    def __init__(self, rank: Rank = None, *, dt: float = 1.0) -> None:
        self.rank: Rank = rank
        self.dt = dt

    def fit(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> Self:
        """Fit one operator to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H)."""
        snapshots, pairs = pack_trajectories(read_trajectories(self, X, lengths))
        fitted = subspace_dmd(snapshots, pairs, rank=self.rank)
        self._keep(fitted, snapshots, pairs)
        self.eigenvectors_ = fitted.eigenvectors.numpy()
        return self

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        return states.numpy().astype(np.float64) @ self.eigenvectors_
