"""Extended DMD through a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.estimators.spectral import EigenfunctionEstimator
from relax_rl.estimators.trajectories import read_trajectories
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.pairs.snapshots import pack_trajectories
from relax_rl.koopman.spectra.dmd import Variant
from relax_rl.koopman.spectra.kernels import LinearKernel, PolynomialKernel, RBFKernel, kernel_edmd, median_distance

__all__ = ["KernelEDMD"]


class KernelEDMD(EigenfunctionEstimator):
    """EDMD on all observables of a kernel (:func:`relax_rl.koopman.spectra.kernels.kernel_edmd`).

    Holds where features outnumber snapshots: what is decomposed is the T x T matrix of inner products.

    Args:
        kernel: "rbf", "polynomial" or "linear", or a function of tensors (M, H) and (N, H) to (M, N).
        bandwidth: bandwidth of "rbf": exp(-|x - y|^2 / (2 bandwidth^2)); None: the median distance between states.
        degree, offset: degree and offset of "polynomial": (offset + x y* / scale)^degree, with the mean of |x|^2 as
            scale.
        rank: directions to keep; with as many as there are pairs the fit interpolates, and `residual_kind_` is
            "vacuous". Otherwise, and variant, ridge, dt: as in :class:`~relax_rl.estimators.DMD`.

    Attributes:
        kernel_: the kernel used, with its parameters. Others: see `SpectralEstimator`.
    """

    def __init__(
        self,
        kernel: Literal["rbf", "polynomial", "linear"] | Callable[[Tensor, Tensor], Tensor] = "rbf",
        rank: Rank = 0.999,
        *,
        bandwidth: float | None = None,
        degree: int = 2,
        offset: float = 1.0,
        variant: Variant = "least_squares",
        ridge: float = 0.0,
        dt: float = 1.0,
    ) -> None:
        self.kernel = kernel
        self.rank: Rank = rank
        self.bandwidth = bandwidth
        self.degree = degree
        self.offset = offset
        self.variant: Variant = variant
        self.ridge = ridge
        self.dt = dt

    def fit(self, X: Any, y: object = None, *, lengths: Sequence[int] | None = None) -> Self:
        """Fit one operator to X, (T, H) with `lengths` of its trajectories (None: one), or a list of (T_k, H)."""
        states, pairs = pack_trajectories(read_trajectories(self, X, lengths))
        self.kernel_ = self._chosen_kernel(states.double())
        self._fitted = kernel_edmd(
            states, pairs, kernel=self.kernel_, rank=self.rank, variant=self.variant, ridge=self.ridge
        )
        self._keep(self._fitted.modes)
        return self

    def _chosen_kernel(self, states: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        if callable(self.kernel):
            return self.kernel
        if self.kernel == "linear":
            return LinearKernel()
        if self.kernel == "polynomial":
            scale = float(states.square().sum(-1).mean())
            if not math.isfinite(scale) or (scale == 0.0 and bool(states.any())):
                raise DataError("The squares of the states leave double precision; scale the states.")
            return PolynomialKernel(self.degree, self.offset, scale if scale > 0 else 1.0)
        if self.kernel == "rbf":
            bandwidth = median_distance(states) if self.bandwidth is None else self.bandwidth
            return RBFKernel(bandwidth if bandwidth > 0 else 1.0)
        raise ConfigError(f"Unknown kernel {self.kernel!r}; use 'rbf', 'polynomial', 'linear' or a function.")

    def _eigenfunctions(self, states: Tensor) -> np.ndarray:
        return self._fitted.eigenfunctions(states.double()).numpy()
