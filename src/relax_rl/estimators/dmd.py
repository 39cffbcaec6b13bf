"""Dynamic mode decomposition, plain and on delays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.estimators.spectral import EigenfunctionEstimator, SpectralEstimator, explained_variance
from relax_rl.estimators.trajectories import read_rows, read_trajectories
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.operators.reduction import Solver
from relax_rl.koopman.pairs.delays import delay_embedding
from relax_rl.koopman.pairs.snapshots import pack_trajectories
from relax_rl.koopman.spectra.dmd import Modes, Variant, dmd

__all__ = ["DMD", "DelayDMD"]


class DMD(EigenfunctionEstimator):
    """Dynamic mode decomposition (:func:`relax_rl.koopman.spectra.dmd.dmd`), in all its variants.

    Args:
        rank: directions to keep: a number, a share of the energy in (0, 1), "optimal" (Gavish and Donoho), None (all).
        variant: "least_squares", "ridge", "forward_backward", "total_least_squares", "measure_preserving" or
            "instrumental"; see "Which estimator for which noise" in docs/guides/toolkit.md.
        modes: "projected" or "exact".
        ridge: ridge of the variant "ridge", relative to the mean square of the singular values kept.
        solver: "auto", "svd", "gram" or "randomised".
        dt: time between two snapshots, for continuous_eigenvalues_.
        random_state: seed of the randomised solver.

    Attributes:
        eigenvectors_: (H, R) complex, coefficients of the eigenfunctions. Others: see `SpectralEstimator`.
    """

    def __init__(
        self,
        rank: Rank = None,
        *,
        variant: Variant = "least_squares",
        modes: Modes = "projected",
        ridge: float = 0.0,
        solver: Solver = "auto",
        dt: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.rank: Rank = rank
        self.variant: Variant = variant
        self.modes: Modes = modes
        self.ridge = ridge
        self.solver: Solver = solver
        self.dt = dt
        self.random_state = random_state

    def fit(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> Self:
        """Fit one operator to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H)."""
        snapshots, pairs = pack_trajectories(read_trajectories(self, X, lengths))
        fitted = dmd(
            snapshots,
            pairs,
            rank=self.rank,
            variant=self.variant,
            modes=self.modes,
            ridge=self.ridge,
            solver=self.solver,
            seed=self.random_state,
        )
        self._keep(fitted, snapshots, pairs)
        self.eigenvectors_ = fitted.eigenvectors.numpy()
        return self

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        return states.numpy().astype(np.float64) @ self.eigenvectors_


class DelayDMD(SpectralEstimator):
    """DMD of delay-embedded snapshots (Hankel DMD): what one state does not tell, the states before it may.

    Args:
        delays: number of consecutive states that make one snapshot; 1 is DMD.
        rank, variant, ridge, solver, dt, random_state: as in :class:`DMD`.

    Attributes:
        modes_: (R, H) complex, the part of each mode at the newest of the delays.
        delay_modes_: (R, delays, H) complex, oldest first. Others: see `SpectralEstimator`.
    """

    def __init__(
        self,
        delays: int = 2,
        rank: Rank = None,
        *,
        variant: Variant = "least_squares",
        ridge: float = 0.0,
        solver: Solver = "auto",
        dt: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.delays = delays
        self.rank: Rank = rank
        self.variant: Variant = variant
        self.ridge = ridge
        self.solver: Solver = solver
        self.dt = dt
        self.random_state = random_state

    def fit(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> Self:
        """Fit one operator to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H)."""
        states, pairs = pack_trajectories(read_trajectories(self, X, lengths))
        snapshots, pairs = delay_embedding(states, pairs, self.delays)
        if not bool(pairs.any()):
            raise DataError(f"{self.delays} delays need a trajectory of {self.delays + 1} states or more.")
        self._fitted = dmd(
            snapshots,
            pairs,
            rank=self.rank,
            variant=self.variant,
            ridge=self.ridge,
            solver=self.solver,
            seed=self.random_state,
        )
        self._keep(self._fitted, snapshots, pairs)
        self.delay_modes_ = self.modes_.reshape(len(self.modes_), self.delays, states.shape[1])
        self.modes_ = self.delay_modes_[:, -1]
        return self

    def predict(self, X: Any, *, lengths: Sequence[int] | None = None) -> np.ndarray:
        """The state after each run of `delays` states: (T - delays + 1, H), of several trajectories one after the
        other; unlike that of an estimator of single states, it depends on the order of the rows."""
        check_is_fitted(self)
        return np.concatenate([self._next(part) for part in read_trajectories(self, X, lengths, reset=False)])

    def score(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> float:
        """R^2 of predicting each state from the `delays` states before it; 1 is perfect, 0 as good as their mean.

        Args:
            X: (T, H) or a list of (T_k, H).
            y: ignored.
            lengths: T_k of the trajectories in X; None: one.
        """
        check_is_fitted(self)
        parts = [part for part in read_trajectories(self, X, lengths, reset=False) if len(part) > self.delays]
        if not parts:
            raise DataError(f"No trajectory has {self.delays + 1} states, so there is nothing to score.")
        future = np.concatenate([part[self.delays :].double().numpy() for part in parts])
        return explained_variance(future, np.concatenate([self._next(part[:-1]) for part in parts]))

    def _next(self, trajectory: Tensor) -> np.ndarray:
        if len(trajectory) < self.delays:
            raise DataError(f"A prediction needs {self.delays} states in a row, got {len(trajectory)}.")
        history = trajectory.double()
        windows = history.unfold(0, self.delays, 1).movedim(-1, 1).flatten(1)
        return self._fitted.forecast(windows, 1)[:, 0, -history.shape[1] :].numpy()

    def forecast(self, X: Any, steps: int) -> np.ndarray:
        """States 1..steps after the last of X, (T, H) with T >= delays: (steps, H)."""
        check_is_fitted(self)
        history = read_rows(self, X)
        if len(history) < self.delays or steps < 1:
            raise ConfigError(
                f"A forecast needs steps >= 1 and a history of {self.delays} states, got {steps} and {len(history)}."
            )
        future = self._fitted.forecast(history[-self.delays :].double().flatten(), steps)
        return future.numpy()[:, -history.shape[1] :]
