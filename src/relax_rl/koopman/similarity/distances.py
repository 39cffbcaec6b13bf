"""Wasserstein distance between spectra, each a uniform measure on its eigenvalues in the complex plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit
from relax_rl.koopman.linalg.assignment import optimal_assignment
from relax_rl.koopman.linalg.transport import uniform_transport

__all__ = ["MAX_COMMON_SIZE", "spectral_wasserstein", "spectral_wasserstein_matrix"]

MAX_COMMON_SIZE = 256
"""Largest least common multiple of two sizes at which unequal spectra are compared by copies of their points, a whole
batch at once. Beyond, every pair of spectra is one problem of transport."""


def spectral_wasserstein(left: Tensor, right: Tensor, *, order: float = 1.0) -> Tensor:
    """W_p between the uniform measures on two sets of points in the complex plane, exact, (...) float64.

    ``W_p = (min over transport plans of the mean of |l - r|^p)^(1/p)``: a metric for every p >= 1, with no square left
    on it, so that two point masses 3 apart are 3 apart at every order. Sets of one size have an optimal plan that is an
    assignment; sets of n and m points one between lcm(n, m) copies, or a transport plan. Differentiable in the points,
    the plan held fixed.

    Args:
        left: (..., n) complex or real.
        right: (..., m).
        order: p >= 1.

    Raises:
        ConfigError: an order below 1.
        DataError: an empty set, a NaN or Inf, or batches that do not fit.
    """
    if not 1.0 <= order < math.inf:
        raise ConfigError(f"The order of a Wasserstein distance must be at least 1 and finite, got {order}.")
    left, right = as_tensor(left, "A spectrum"), as_tensor(right, "A spectrum")
    for points in (left, right):
        if points.ndim < 1:
            raise DataError("A spectrum must be (..., n) eigenvalues, but a single number was given.")
    n, m = left.shape[-1], right.shape[-1]
    if n == 0 or m == 0:
        raise DataError("A spectrum without eigenvalues has no distance to another; leave it out.")
    batches = (left.shape[:-1], right.shape[:-1])
    if any(a != b and 1 not in (a, b) for a, b in zip(reversed(batches[0]), reversed(batches[1]), strict=False)):
        raise DataError(
            f"Spectra must be one set each, or as many on both sides, got {tuple(left.shape)} and {tuple(right.shape)}."
        )
    common = math.lcm(n, m)
    if n != m and common > MAX_COMMON_SIZE:
        return _by_transport(left.to(torch.complex128), right.to(torch.complex128), order)
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


def _by_transport(left: Tensor, right: Tensor, order: float) -> Tensor:
    """The distance of sets whose copies would be too many: one plan a pair."""
    cost = (left.unsqueeze(-1) - right.unsqueeze(-2)).abs()
    cost, unit = in_its_unit(cost)
    cost = cost**order
    flat = cost.reshape(-1, *cost.shape[-2:])
    plans = torch.stack([uniform_transport(matrix) for matrix in flat]).view(cost.shape)
    mean = (plans * cost).sum((-2, -1))
    return unit * torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (1.0 / order), 0.0)


def spectral_wasserstein_matrix(spectra: Sequence[Tensor] | Tensor, *, order: float = 1.0) -> Tensor:
    """Distances of all pairs of B spectra (n_i,), which may differ in size: (B, B) float64, zero diagonal, symmetric.

    All pairs of two sizes are assigned together. Arguments and errors as in :func:`spectral_wasserstein`.
    """
    spectra = [as_tensor(spectrum, "A spectrum") for spectrum in spectra]
    for spectrum in spectra:
        if spectrum.ndim != 1:
            raise DataError(
                f"A spectrum must be (n,) eigenvalues, got {tuple(spectrum.shape)}; give one spectrum each."
            )
    sizes = torch.tensor([len(spectrum) for spectrum in spectra])
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
