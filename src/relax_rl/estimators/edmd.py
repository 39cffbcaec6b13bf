"""Extended DMD on a dictionary of observables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.preprocessing import PolynomialFeatures
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.estimators.spectral import EigenfunctionEstimator
from relax_rl.estimators.trajectories import read_trajectories
from relax_rl.koopman.dictionaries.protocol import Dictionary
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.pairs.snapshots import pack_trajectories
from relax_rl.koopman.spectra.dmd import Modes, Variant, edmd

__all__ = ["EDMD"]


class EDMD(EigenfunctionEstimator):
    """Extended DMD (:func:`relax_rl.koopman.spectra.dmd.edmd`).

    Args:
        observables: a scikit-learn transformer, fitted here on a clone; or a function of states (N, H) to (N, F), of
            NumPy arrays, or, if it is a torch module or a dictionary of `relax_rl.koopman`, of tensors; None:
            polynomials of degree 2.
        rank, variant, modes, ridge, dt: as in :class:`~relax_rl.estimators.DMD`.

    Attributes:
        eigenvectors_: (F, R) complex, coefficients of the eigenfunctions over the observables.
        observables_: the fitted `observables`. Others: see `SpectralEstimator`.
    """

    def __init__(
        self,
        observables: Any = None,
        rank: Rank = None,
        *,
        variant: Variant = "least_squares",
        modes: Modes = "projected",
        ridge: float = 0.0,
        dt: float = 1.0,
    ) -> None:
        self.observables = observables
        self.rank: Rank = rank
        self.variant: Variant = variant
        self.modes: Modes = modes
        self.ridge = ridge
        self.dt = dt

    def fit(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> Self:
        """Fit one operator to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H)."""
        states, pairs = pack_trajectories(read_trajectories(self, X, lengths))
        source = PolynomialFeatures(2) if self.observables is None else self.observables
        is_transformer = hasattr(source, "fit_transform")
        self.observables_: Any = clone(source) if is_transformer else source
        if is_transformer:
            self.observables_.fit(states.numpy())
        fitted = edmd(
            states,
            pairs,
            observables=self._lift,
            rank=self.rank,
            variant=self.variant,
            modes=self.modes,
            ridge=self.ridge,
        )
        self._keep(fitted)
        self.eigenvectors_ = fitted.eigenvectors.numpy()
        return self

    def _lift(self, states: Tensor) -> Tensor:
        lifted = _as_function(self.observables_)(states)
        if lifted.shape[:1] != states.shape[:1] or lifted.ndim != 2:
            raise DataError(
                f"The observables of {len(states)} states must be ({len(states)}, F), got {tuple(lifted.shape)}."
            )
        return lifted

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        return self._lift(states).numpy().astype(np.float64) @ self.eigenvectors_


def _as_function(observables: Any) -> Callable[[Tensor], Tensor]:
    """A function of tensors, for observables of any kind."""
    if isinstance(observables, torch.nn.Module | Dictionary):

        def of_tensors(states: Tensor) -> Tensor:
            with torch.no_grad():
                return observables(states)

        return of_tensors
    function = getattr(observables, "transform", observables)

    def of_arrays(states: Tensor) -> Tensor:
        lifted = np.asarray(function(states.numpy().astype(np.float64)))
        if np.iscomplexobj(lifted):
            raise DataError("The observables must be real; give real and imaginary part as two of them.")
        return torch.from_numpy(np.array(lifted, dtype=np.float64))

    return of_arrays
