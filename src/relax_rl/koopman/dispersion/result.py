"""The dispersion of a batch of trajectories, and the figures that tell whether to trust it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Diagnostics", "Dispersion"]


@dataclass(frozen=True)
class Diagnostics:
    """Computes the figures beside a dispersion."""

    radius: Callable[[], Tensor]
    condition: Callable[[], Tensor]
    residuals: Callable[[], tuple[Tensor, Tensor]]
    """Median and share of the spurious ones."""


@dataclass(frozen=True)
class Dispersion:
    """DSD of a batch of trajectories, and what a person needs to trust it. Only `values` carries gradient.

    Whatever costs more and is not needed for the values is computed when it is first read.
    """

    values: Tensor
    """(B,) float64; 0, without gradient, where undefined."""
    is_defined: Tensor
    """(B,) bool: finite, and more snapshot pairs than observables (with no more, a fit interpolates whatever the
    dynamics); for "robust" also at least one window of pairs, for "instrumental" 32 runs of four snapshots and two
    directions that the past predicts."""
    num_pairs: Tensor
    """(B,) int64."""
    num_clamped: Tensor
    """(B,) int64: modes whose gradient was bounded because they are nearly defective; none for "singular"."""
    num_nonfinite: Tensor
    """() int64: trajectories left out because they hold NaN or Inf."""
    diagnostics: Diagnostics = field(repr=False)
    """Computes the remaining figures."""
    error_bound: Tensor | None = None
    """(B,) float64: how far a value can be from that of double precision; 0 where all was computed in it. None for
    estimators that know double precision alone."""
    dictionary_digest: str | None = None
    """Digest of the dictionary that lifted the states; None if they came lifted. Values of two dictionaries cannot be
    compared."""

    @cached_property
    def spectral_radius(self) -> Tensor:
        """(B,) largest modulus of the operator's eigenvalues, of "singular" too; 0 where undefined."""
        return self.diagnostics.radius()

    @cached_property
    def condition(self) -> Tensor:
        """(B,) condition number of the regression; 0 where undefined."""
        return self.diagnostics.condition()

    @cached_property
    def median_residual(self) -> Tensor:
        """(B,) median ResDMD residual of the eigenpairs, NaN where undefined. Of "robust", whose whitened operator
        treats the two snapshots of a pair alike, it is sqrt(1 - |lambda|^2), averaged over windows."""
        return self._residuals[0]

    @cached_property
    def spurious_share(self) -> Tensor:
        """(B,) share of the eigenpairs with a residual above
        :data:`~relax_rl.koopman.spectra.eigenpairs.SPURIOUS_RESIDUAL`, NaN where undefined."""
        return self._residuals[1]

    @cached_property
    def _residuals(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.diagnostics.residuals()

    @property
    def defined_share(self) -> float:
        """Share of the trajectories that have a dispersion; NaN of none."""
        return float(self.is_defined.double().mean())
