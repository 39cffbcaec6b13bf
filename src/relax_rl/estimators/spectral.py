"""Common part of the estimators: a spectrum with modes, by which states are taken forward in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.estimators.trajectories import read_rows, read_trajectories
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.spectra.dmd import DynamicModes
from relax_rl.koopman.spectra.residuals import disjoint_folds, dual_residuals, residual_kind

__all__ = ["EigenfunctionEstimator", "SpectralEstimator", "explained_variance"]


def explained_variance(future: np.ndarray, predicted: np.ndarray) -> float:
    """R^2 of predictions (N, H), over all features together: 1 is perfect, 0 as good as the mean."""
    unit = float(in_its_unit(torch.from_numpy(future))[1])
    future, predicted = future / unit, predicted / unit
    error, spread = float(((future - predicted) ** 2).sum()), float(((future - future.mean(0)) ** 2).sum())
    # Where nothing varies, as scikit-learn's r2_score has it.
    return 1.0 - error / spread if spread > 0 else float(error == 0)


class SpectralEstimator(BaseEstimator):
    """Attributes of a fitted spectrum.

    Attributes:
        eigenvalues_: (R,) complex, of discrete time, largest modulus first.
        continuous_eigenvalues_: (R,) complex, log(eigenvalues_) / dt.
        modes_: (R, H) complex, a row each.
        residuals_: (R,) ResDMD residual of each eigenvalue, of the kind `residual_kind_` says.
        residual_kind_: "primal", "dual", or "vacuous": zero by construction, whatever the data.
        rank_, n_pairs_: R, and the number of snapshot pairs.
        condition_: condition number of the first snapshots on the directions kept.
        singular_values_: (R,).
    """

    def _keep(self, fitted: DynamicModes, snapshots: Tensor | None = None, pairs: Tensor | None = None) -> None:
        """Set the attributes, with dual residuals where the primal ones say nothing and the snapshots are given.

        Args:
            fitted: unbatched.
            snapshots: (T, F).
            pairs: (T-1,) bool.
        """
        self.eigenvalues_ = fitted.eigenvalues.numpy()
        self.continuous_eigenvalues_ = fitted.continuous_eigenvalues(getattr(self, "dt", 1.0)).numpy()
        self.modes_ = fitted.modes.numpy()
        self.rank_ = int(fitted.rank)
        self.n_pairs_ = int(fitted.num_pairs)
        self.condition_ = float(fitted.condition)
        self.singular_values_ = fitted.singular_values.numpy()
        residuals = fitted.residuals
        self.residual_kind_ = residual_kind(self.n_pairs_, 0 if snapshots is None else snapshots.shape[1], self.rank_)
        if self.residual_kind_ == "dual" and snapshots is not None and pairs is not None:
            steps = pairs.nonzero().squeeze(-1)
            x, y = snapshots[steps], snapshots[steps + 1]
            residuals = dual_residuals(x, y, fitted.eigenvalues, fitted.modes.mH, disjoint_folds(steps))
        self.residuals_ = residuals.numpy()


class EigenfunctionEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SpectralEstimator):
    """A spectrum whose eigenfunctions are defined for any single state; subclasses say how in `_eigenfunctions`."""

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return len(self.eigenvalues_)

    def transform(self, X: Any) -> np.ndarray:
        """Eigenfunctions phi(x), (N, R) complex, of states (N, H)."""
        check_is_fitted(self)
        return self._eigenfunctions(read_rows(self, X))

    def predict(self, X: Any) -> np.ndarray:
        """The state one step after each of the states (N, H): (N, H)."""
        return self.forecast(X, steps=1)[:, 0]

    def forecast(self, X: Any, steps: int) -> np.ndarray:
        """States 1..steps after each of the states (N, H): (N, steps, H)."""
        check_is_fitted(self)
        if steps < 1:
            raise ConfigError(f"steps must be at least 1, got {steps}.")
        powers = self.eigenvalues_ ** np.arange(1, steps + 1)[:, None]
        return ((self.transform(X)[:, None, :] * powers) @ self.modes_).real

    def score(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> float:
        """R^2 of predicting each state from the one before; 1 is perfect, 0 as good as their mean.

        Args:
            X: (T, H) or a list of (T_k, H).
            y: ignored.
            lengths: T_k of the trajectories in X; None: one.
        """
        check_is_fitted(self)
        trajectories = [part.numpy() for part in read_trajectories(self, X, lengths, reset=False) if len(part) > 1]
        if not trajectories:
            raise DataError("No trajectory has two states, so there is nothing to score.")
        predicted = np.concatenate([self.predict(part[:-1]) for part in trajectories])
        future = np.concatenate([part[1:] for part in trajectories])
        return explained_variance(future, predicted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # eigenfunctions are complex
        return tags
