"""Kernels, and extended DMD through them: as many observables as one likes, at the cost of the number of snapshots.

A kernel k(x, y) = psi(x) psi(y)* stands for observables psi that are never computed. All that is decomposed is the
matrix of inner products of snapshots with one another, so this holds where features outnumber snapshots, and for
infinitely many observables (Williams, Rowley and Kevrekidis 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.operators.reduction import reduce_kernel
from relax_rl.koopman.pairs.snapshots import double_of, joined_snapshots, paired_snapshots
from relax_rl.koopman.spectra.dmd import DynamicModes, Variant, modes_of

__all__ = ["KernelModes", "LinearKernel", "PolynomialKernel", "RBFKernel", "kernel_edmd", "median_distance"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""States (..., M, H) and (..., N, H) -> (..., M, N)."""


@dataclass(frozen=True)
class LinearKernel:
    """x y*: DMD itself."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y.mH


@dataclass(frozen=True)
class PolynomialKernel:
    """(offset + x y* / scale)^degree: all monomials up to that degree (offset > 0), weighted."""

    degree: int = 2
    offset: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1 or self.offset < 0 or not self.scale > 0:
            raise ConfigError(
                "A polynomial kernel needs degree >= 1, offset >= 0 and scale > 0, "
                f"got {self.degree}, {self.offset} and {self.scale}."
            )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.offset + x @ y.mH / self.scale) ** self.degree


@dataclass(frozen=True)
class RBFKernel:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""

    bandwidth: float

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ConfigError(f"The bandwidth of an RBF kernel must be positive, got {self.bandwidth}.")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        bandwidth, unit = in_its_unit(torch.tensor(self.bandwidth, dtype=torch.float64))
        if unit != 1.0:  # states of that size have no squares in double precision
            return RBFKernel(float(bandwidth))(x / unit, y / unit)
        squares = x.abs().square().sum(-1).unsqueeze(-1) + y.abs().square().sum(-1).unsqueeze(-2)
        # Rounding can make the distance of a state from itself negative, and its kernel larger than 1.
        distances = (squares - 2.0 * (x @ y.mH).real).clamp_min(0.0)
        return torch.exp(-distances / (2.0 * self.bandwidth**2))


def median_distance(states: Tensor, limit: int = 1000) -> float:
    """Median distance between states (N, H), of at most `limit` evenly chosen: the usual bandwidth.

    Raises:
        DataError: fewer than two states.
    """
    if states.ndim != 2 or len(states) < 2:
        raise DataError(f"A median distance needs states (N, H) of which there are two, got {tuple(states.shape)}.")
    # Spread over all states: neighbours in time are closer to one another than others.
    states = states[:: -(-len(states) // limit)].detach().to(double_of(states.dtype))
    states, unit = in_its_unit(torch.view_as_real(states).flatten(-2) if states.is_complex() else states)
    return float(torch.pdist(states).median() * unit)


@dataclass(frozen=True)
class KernelModes:
    """Modes fitted through a kernel, with the snapshots that new states are compared with."""

    modes: DynamicModes
    snapshots: Tensor
    """(..., T-1, H), the first snapshots."""
    kernel: Kernel

    def eigenfunctions(self, states: Tensor) -> Tensor:
        """phi(x), (..., N, R), of states (..., N, H)."""
        return self.modes.eigenfunctions(self.kernel(states.to(self.snapshots.dtype), self.snapshots))

    def forecast(self, state: Tensor, steps: int) -> Tensor:
        """States 1..steps after the states (..., H): (..., steps, H)."""
        sections = self.kernel(state.to(self.snapshots.dtype).unsqueeze(-2), self.snapshots).squeeze(-2)
        return self.modes.forecast(sections, steps)


def kernel_edmd(
    states: Tensor | Sequence[Tensor],
    pairs: Tensor | None = None,
    *,
    kernel: Kernel,
    rank: Rank = None,
    variant: Variant = "least_squares",
    ridge: float = 0.0,
    tolerance: float = 1e-12,
) -> KernelModes:
    """EDMD on all observables of a kernel, for one trajectory, several pooled, or each in a batch.

    Args:
        states: (..., T, H), any precision; the kernel is computed in double precision.
        pairs: (..., T-1) bool, as in :func:`~relax_rl.koopman.spectra.dmd.dmd`.
        kernel: states (..., M, H) and (..., N, H) -> (..., M, N), Hermitian positive semi-definite.
        rank: see :data:`~relax_rl.koopman.linalg.ranks.Rank`; with as many directions as pairs the fit interpolates.
        variant: see :data:`~relax_rl.koopman.spectra.dmd.Variant`.
        ridge: ridge of the variant "ridge", relative.
        tolerance: eigenvalues of the kernel matrix below this share of the largest are left out.

    Raises:
        DataError: nothing to fit, NaN or Inf in a pair, or shapes that do not belong together.
        ConfigError: a setting out of range.
    """
    states, pairs = joined_snapshots(states, pairs)
    used = paired_snapshots(pairs).unsqueeze(-1)
    # Before the kernel sees them: padding may hold NaN, and a kernel joins every state with every other.
    states = torch.where(used, states.detach().to(double_of(states.dtype)), 0.0)
    reduction = reduce_kernel(kernel(states, states), pairs, states, rank=rank, tolerance=tolerance)
    return KernelModes(modes_of(reduction, variant=variant, ridge=ridge), states[..., :-1, :], kernel)
