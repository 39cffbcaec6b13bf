"""Wasserstein distance between spectra, each a uniform measure on its eigenvalues in the complex plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import in_its_unit, require_tensor
from relax_rl.koopman.linalg.assignment import optimal_assignment

__all__ = ["MAX_COMMON_SIZE", "spectral_wasserstein", "spectral_wasserstein_matrix"]

MAX_COMMON_SIZE = 256
"""Largest least common multiple of two sizes at which spectra of unequal sizes are compared."""


def spectral_wasserstein(left: Tensor, right: Tensor, *, order: float = 1.0) -> Tensor:
    """W_p between the uniform measures on two sets of points in the complex plane, exact, (...) float64.

    ``W_p = (min over transport plans of the mean of |l - r|^p)^(1/p)``: a metric for every p >= 1, with no square left
    on it, so that two point masses 3 apart are 3 apart at every order. Sets of one size have an optimal plan that is an
    assignment; sets of n and m points one between lcm(n, m) copies. Differentiable in the points, the plan held fixed.

    Args:
        left: (..., n) complex or real.
        right: (..., m).
        order: p >= 1.

    Raises:
        ConfigError: an order below 1.
        DataError: an empty set, a NaN or Inf, or n and m whose least common multiple is above
            :data:`MAX_COMMON_SIZE`.
    """
    if not 1.0 <= order < math.inf:
        raise ConfigError(f"The order of a Wasserstein distance must be at least 1 and finite, got {order}.")
    for points in (left, right):
        if require_tensor(points, "A spectrum").ndim < 1:
            raise DataError("A spectrum must be (..., n) eigenvalues, but a single number was given.")
    n, m = left.shape[-1], right.shape[-1]
    if n == 0 or m == 0:
        raise DataError("A spectrum without eigenvalues has no distance to another; leave it out.")
    common = math.lcm(n, m)
    if n != m and common > MAX_COMMON_SIZE:
        raise DataError(
            f"Spectra of {n} and {m} eigenvalues need {common} copies to be compared exactly, more than "
            f"{MAX_COMMON_SIZE}; keep the same number of modes of each."
        )
    # Repeated, both are sets of lcm(n, m) points of one weight, and their best plan is an assignment.
    first, second = (
        points.to(torch.complex128).repeat_interleave(common // size, -1) for points, size in ((left, n), (right, m))
    )
    cost = (first.unsqueeze(-1) - second.unsqueeze(-2)).abs()
    cost, unit = in_its_unit(cost) if order != 1.0 else (cost, 1.0)
    if order != 1.0:
        cost = cost**order
    # Detached inside: the plan is piecewise constant, so its derivative is zero wherever there is one.
    columns = optimal_assignment(cost)
    mean = cost.gather(-1, columns.unsqueeze(-1)).squeeze(-1).mean(-1)
    # The root has no finite derivative at zero, where zero is a subgradient.
    if order == 1.0:
        return mean
    return unit * torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (1.0 / order), 0.0)


def spectral_wasserstein_matrix(spectra: Sequence[Tensor] | Tensor, *, order: float = 1.0) -> Tensor:
    """Distances of all pairs of B spectra (n_i,), which may differ in size: (B, B) float64, zero diagonal, symmetric.

    All pairs of two sizes are assigned together. Arguments and errors as in :func:`spectral_wasserstein`.
    """
    sizes = torch.tensor([len(require_tensor(spectrum, "A spectrum")) for spectrum in spectra])
    distances = torch.zeros((len(sizes), len(sizes)), dtype=torch.float64)
    groups = {int(size): (sizes == size).nonzero().squeeze(-1) for size in sizes.unique()}
    stacked = {size: torch.stack([spectra[i] for i in members.tolist()]) for size, members in groups.items()}
    for small, rows in groups.items():
        for large, columns in groups.items():
            # Each two sizes once; the other half of the matrix is filled by symmetry.
            if small > large:
                continue
            if small == large:
                i, j = torch.triu_indices(len(rows), len(rows), offset=1)
            else:
                i, j = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(columns))).T
            if len(i) == 0:
                continue
            values = spectral_wasserstein(stacked[small][i], stacked[large][j], order=order).cpu()
            distances = distances.index_put((rows[i], columns[j]), values).index_put((columns[j], rows[i]), values)
    return distances
