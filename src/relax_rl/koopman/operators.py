"""From Gram statistics to the operator matrix K, Y ~ X K: least squares, ridge, whitened."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
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


def whitened_operator(statistics: GramStatistics, rank: int, *, rcond: float | None = None) -> OperatorFit:
    """K~ = S^-1/2 A S^-1/2 on the `rank` leading eigenvectors of S = (G + L) / 2, in coordinates similar to it.

    S counts the first and the second snapshot of every pair alike. For any v, |v* X* Y v| <= (|X v|^2 + |Y v|^2) / 2
    = v* S v: the numerical range, and so every eigenvalue, lies in the closed unit disc, whatever the data. For
    stationary data G = L up to end effects and the eigenvalues are those of least squares on the same subspace.
    The matrix returned is S_R^-1 A_R with S_R = U^T S U, A_R = U^T A U, which has the eigenvalues of K~; the subspace
    U is treated as fixed by the gradient.

    Args:
        statistics: batch shape (...).
        rank: R, 1..F, the most directions to keep; the matrix is (..., R, R).
        rcond: directions below this share of the leading eigenvalue of S are left out too; each left out is an exact
            zero eigenvalue of the matrix, and the `rank` returned counts those kept.
    """
    if not 1 <= rank <= statistics.num_observables:
        raise ConfigError(f"rank must lie in 1..{statistics.num_observables} (the number of observables), got {rank}.")
    symmetric = 0.5 * (statistics.gram + statistics.future)
    with torch.no_grad():
        basis = torch.linalg.eigh(symmetric).eigenvectors[..., -rank:]
    reduced = GramStatistics(
        basis.mT @ symmetric @ basis,
        basis.mT @ statistics.cross @ basis,
        basis.mT @ symmetric @ basis,
        statistics.num_pairs,
    )
    return least_squares_operator(reduced, rcond=rcond)


def _pseudo_inverse(gram: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pseudo-inverse of symmetric matrices, condition number of X on the directions kept, and their number."""
    values, vectors = torch.linalg.eigh(gram)
    largest = values[..., -1:]
    kept = (values > cutoff * largest) & (largest > 0)
    inverse_values = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0)
    inverse = (vectors * inverse_values.unsqueeze(-2)) @ vectors.mT
    smallest = torch.where(kept, values, torch.inf).amin(-1)
    condition = torch.where(kept.any(-1), (largest.squeeze(-1) / smallest).sqrt(), torch.inf)
    return inverse, condition, kept.sum(-1)
