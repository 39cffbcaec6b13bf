"""Optimised DMD: exponentials fitted to whole trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from relax_rl.estimators.spectral import EigenfunctionEstimator
from relax_rl.estimators.trajectories import read_trajectories
from relax_rl.koopman.pairs.snapshots import pack_trajectories
from relax_rl.koopman.spectra.optimised_dmd import Constraint, optimised_dmd
from relax_rl.koopman.spectra.residuals import primal_residuals, residual_kind

__all__ = ["OptimisedDMD"]


class OptimisedDMD(EigenfunctionEstimator):
    """Optimised DMD (:func:`relax_rl.koopman.spectra.optimised_dmd.optimised_dmd`): unbiased under measurement noise.

    Args:
        rank: number of exponentials; None: two, as one oscillation has, or one where there is a single feature.
        dt: time between two snapshots, where `fit` is given no times.
        constraints, bound: conditions on the exponents, as in `optimised_dmd`.
        max_iter, tol: most iterations and tolerance of the Levenberg-Marquardt iteration.

    Attributes:
        continuous_eigenvalues_: (R,) complex, the exponents, slowest decay first; eigenvalues_ are those over dt.
        amplitudes_: (K, R) complex, of each mode in each trajectory at its time 0.
        relative_error_: relative error of the fit to the snapshots.
        n_iter_, is_converged_: how the iteration ended.
        modes_, residuals_, residual_kind_, rank_, n_pairs_: as in `SpectralEstimator`; the residuals are of pairs.
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        dt: float = 1.0,
        constraints: Sequence[Constraint] = (),
        bound: float | None = None,
        max_iter: int = 200,
        tol: float = 1e-12,
    ) -> None:
        self.rank = rank
        self.dt = dt
        self.constraints = constraints
        self.bound = bound
        self.max_iter = max_iter
        self.tol = tol

    def fit(
        self,
        X: Any,
        y: object = None,
        *,
        lengths: Sequence[int] | None = None,
        times: Sequence[Any] | None = None,
    ) -> Self:
        """Fit exponents to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H).

        Args:
            X: the trajectories.
            y: ignored.
            lengths: T_k where X is one array.
            times: times of each trajectory (T_k,), where they are not dt apart.
        """
        trajectories = read_trajectories(self, X, lengths)
        clocks = None if times is None else [torch.from_numpy(np.array(clock)).double() for clock in times]
        rank = min(2, trajectories[0].shape[1]) if self.rank is None else self.rank
        fit = optimised_dmd(
            trajectories,
            rank,
            dt=self.dt,
            times=clocks,
            constraints=self.constraints,
            bound=self.bound,
            max_iterations=self.max_iter,
            tolerance=self.tol,
        )
        self.continuous_eigenvalues_ = fit.exponents.numpy()
        self.eigenvalues_ = fit.eigenvalues(self.dt).numpy()
        self.modes_ = fit.modes.numpy()
        self.amplitudes_ = fit.amplitudes.numpy()
        self.relative_error_ = fit.relative_error
        self.n_iter_, self.is_converged_ = fit.iterations, fit.is_converged
        self.eigenvectors_ = np.linalg.pinv(self.modes_)
        snapshots, pairs = pack_trajectories(trajectories)
        x, y_pairs = snapshots[:-1][pairs].double(), snapshots[1:][pairs].double()
        self.rank_, self.n_pairs_ = rank, len(x)
        self.residual_kind_ = residual_kind(self.n_pairs_, 0, self.rank_)
        eigenvectors = torch.from_numpy(self.eigenvectors_)
        self.residuals_ = primal_residuals(x, y_pairs, torch.from_numpy(self.eigenvalues_), eigenvectors).numpy()
        return self

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        return states.numpy().astype(np.float64) @ self.eigenvectors_
