"""From Gram statistics to the operator matrix K, Y ~ X K: least squares, ridge, whitened."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.eigensolvers import eigh
from relax_rl.koopman.snapshots import GramStatistics

__all__ = ["OperatorFit", "least_squares_operator", "ridge_operator", "whitened_operator"]


@dataclass(frozen=True)
class OperatorFit:
    """An operator matrix and how well posed its regression was."""

    matrix: Tensor
    """K, (..., F, F) or (..., R, R), float64, differentiable in the statistics."""
    condition: Tensor
    """Condition number of X on the directions kept (the square root of the Gram matrix's), (...), detached."""
    rank: Tensor
    """Number of directions kept, (...), int64."""


def least_squares_operator(statistics: GramStatistics, *, rcond: float | None = None) -> OperatorFit:
    """K = pinv(X) Y = G^+ A, of minimal norm; eigenvalues of G below `rcond` times its largest are left out.

    The pseudo-inverse is taken of the detached Gram matrix, and one step of iterative refinement, K + G^+ (A - G K),
    both sharpens the value and carries the gradient G^+ (dA - dG K). No eigenvector is differentiated, so repeated
    eigenvalues of G do no harm; where directions were left out, they are treated as fixed.

    Args:
        statistics: batch shape (...).
        rcond: relative cut-off on the eigenvalues of G; None is F times the float64 rounding unit.
    """
    gram, cross = statistics.gram, statistics.cross
    cutoff = gram.shape[-1] * torch.finfo(gram.dtype).eps if rcond is None else rcond
    with torch.no_grad():
        inverse, condition, rank = _pseudo_inverse(gram, cutoff)
        first = inverse @ cross
    return OperatorFit(first + inverse @ (cross - gram @ first), condition, rank)


def ridge_operator(statistics: GramStatistics, ridge: float, *, relative: bool = False) -> OperatorFit:
    """K = (G + s I)^-1 A.

    Args:
        statistics: batch shape (...).
        ridge: s > 0, absolute (in the units of G, a sum over pairs), or relative to the mean diagonal entry of G.
        relative: which of the two.
    """
    if not ridge > 0:
        raise ConfigError(f"ridge must be positive, got {ridge}; use least squares for an unregularised operator.")
    gram = statistics.gram
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    # The floor keeps an all-zero Gram matrix (no pairs) solvable; its K is zero.
    scale = diagonal.mean(-1).clamp_min(torch.finfo(gram.dtype).tiny ** 0.5) if relative else diagonal.new_ones(())
    shift = (ridge * scale)[..., None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    regularised = gram + shift
    factor, _ = torch.linalg.cholesky_ex(regularised)
    matrix = torch.cholesky_solve(statistics.cross, factor)
    with torch.no_grad():
        spectrum = torch.linalg.eigvalsh(regularised)
        condition = (spectrum[..., -1] / spectrum[..., 0].clamp_min(torch.finfo(gram.dtype).tiny)).sqrt()
        rank = torch.full(condition.shape, gram.shape[-1], device=gram.device)
    return OperatorFit(matrix, condition, rank)


def whitened_operator(
    snapshots: Tensor, pairs: Tensor, rank: int, *, center: bool = False, rcond: float | None = None
) -> OperatorFit:
    """K~ = S^-1/2 A S^-1/2 on the `rank` leading eigenvectors of S = (G + L) / 2, in coordinates similar to it.

    S counts the first and the second snapshot of every pair alike. For any v, |v* X* Y v| <= (|X v|^2 + |Y v|^2) / 2
    = v* S v: the numerical range, and so every eigenvalue, lies in the closed unit disc, whatever the data. For
    stationary data G = L up to end effects and the eigenvalues are those of least squares on the same subspace.
    The matrix returned is S_R^-1 A_R with S_R = U^T S U, A_R = U^T A U, which has the eigenvalues of K~; the subspace
    U is treated as fixed by the gradient: only the snapshots projected onto it, (..., L, R), are differentiated.

    Args:
        snapshots: Z, (..., L, F) float64, in order of time.
        pairs: (..., L - 1) bool, which neighbours are snapshot pairs.
        rank: R, 1..F, the most directions to keep; the matrix is (..., R, R).
        center: take off the mean of the first and second snapshots of all pairs.
        rcond: directions below this share of the leading eigenvalue of S are left out too (None: F times the rounding
            unit); each left out is an exact zero eigenvalue of the matrix, and the `rank` returned counts those kept.
    """
    if not 1 <= rank <= snapshots.shape[-1]:
        raise ConfigError(f"rank must lie in 1..{snapshots.shape[-1]} (the number of observables), got {rank}.")
    links = pairs.to(snapshots.dtype).unsqueeze(-1)
    # S = Z^T diag(weights) Z: a snapshot counts half for each pair that it is in.
    weights = 0.5 * (torch.nn.functional.pad(links, (0, 0, 0, 1)) + torch.nn.functional.pad(links, (0, 0, 1, 0)))
    shares = weights / weights.sum(-2, keepdim=True).clamp_min(1.0)

    def centered(values: Tensor) -> Tensor:
        return values - shares.mT @ values if center else values

    cutoff = snapshots.shape[-1] * torch.finfo(snapshots.dtype).eps if rcond is None else rcond
    with torch.no_grad():
        values, basis = _leading_directions(centered(snapshots) * weights.sqrt(), rank)
        largest = values[..., -1:]
        kept = (values > cutoff * largest) & (largest > 0)
        inverse = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0).unsqueeze(-1)
        smallest = torch.where(kept, values, torch.inf).amin(-1)
        condition = torch.where(kept.any(-1), (largest.squeeze(-1) / smallest).sqrt(), torch.inf)
        basis = torch.where(kept.unsqueeze(-2), basis, 0.0)
    projected = centered(snapshots @ basis)
    symmetric = projected.mT @ (weights * projected)
    cross = projected[..., :-1, :].mT @ (links * projected[..., 1:, :])
    with torch.no_grad():
        first = inverse * cross
    # One step of refinement from the detached first solution carries the gradient, as in least squares.
    return OperatorFit(first + inverse * (cross - symmetric @ first), condition, kept.sum(-1))


def _leading_directions(weighted: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The `rank` largest eigenvalues (..., R), ascending, of Z^T Z for Z (..., L, F), and the eigenvectors (..., F, R).

    Of Z Z^T where that is the smaller matrix: both have the same eigenvalues above zero.
    """
    num_snapshots, num_observables = weighted.shape[-2:]
    if num_observables <= max(num_snapshots, rank) or num_snapshots < rank:
        values, vectors = eigh(weighted.mT @ weighted)
        return values[..., -rank:], vectors[..., -rank:]
    values, vectors = eigh(weighted @ weighted.mT)
    values, vectors = values[..., -rank:], vectors[..., -rank:]
    lengths = torch.where(values > 0, values, torch.inf).sqrt()
    return values, weighted.mT @ (vectors / lengths.unsqueeze(-2))


def _pseudo_inverse(gram: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pseudo-inverse of symmetric matrices, condition number of X on the directions kept, and their number."""
    values, vectors = eigh(gram)
    largest = values[..., -1:]
    kept = (values > cutoff * largest) & (largest > 0)
    inverse_values = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0)
    inverse = (vectors * inverse_values.unsqueeze(-2)) @ vectors.mT
    smallest = torch.where(kept, values, torch.inf).amin(-1)
    condition = torch.where(kept.any(-1), (largest.squeeze(-1) / smallest).sqrt(), torch.inf)
    return inverse, condition, kept.sum(-1)
