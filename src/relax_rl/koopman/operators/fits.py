"""From Gram statistics to the operator matrix K, Y ~ X K.

Least squares and ridge; forward-backward and total least squares, for snapshots measured with noise;
measure-preserving, for dynamics that are known to be so; whitened, for a spectrum that cannot leave the unit disc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.linalg.eigensolvers import eig, eigh, lapack_on_one_thread
from relax_rl.koopman.pairs.snapshots import GramStatistics

__all__ = [
    "OperatorFit",
    "denoised_statistics",
    "forward_backward_operator",
    "least_squares_operator",
    "measure_preserving_operator",
    "ridge_operator",
    "total_least_squares_operator",
    "whitened_operator",
]

_TINY = torch.finfo(torch.float64).tiny
_CHOLESKY_CONDITION = 1e10
"""Gram matrices up to this condition number are inverted by Cholesky; directions of others may have to be left out."""


@dataclass(frozen=True)
class OperatorFit:
    """An operator matrix and how well posed its regression was."""

    matrix: Tensor
    """K, (..., F, F) or (..., R, R), float64 or complex128."""
    condition_of: Callable[[], Tensor] = field(repr=False)
    """Computes `condition`, for which some methods need eigenvalues that the matrix does not."""
    rank: Tensor
    """Number of directions kept, (...), int64."""

    @cached_property
    def condition(self) -> Tensor:
        """Condition number of X on the directions kept (the square root of the Gram matrix's), (...), detached."""
        return self.condition_of()


def least_squares_operator(statistics: GramStatistics, *, rcond: float | None = None) -> OperatorFit:
    """K = pinv(X) Y = G^+ A, of minimal norm; eigenvalues of G below `rcond` times its largest are left out.

    The pseudo-inverse (by Cholesky where no direction is near the cut-off, otherwise by eigenvectors) is taken of the
    detached Gram matrix, and one step of iterative refinement, K + G^+ (A - G K),
    both sharpens the value and carries the gradient G^+ (dA - dG K). No eigenvector is differentiated, so repeated
    eigenvalues of G do no harm; where directions were left out, they are treated as fixed.

    Args:
        statistics: batch shape (...).
        rcond: relative cut-off on the eigenvalues of G; None is F times the float64 rounding unit.

    Returns:
        The fit; its matrix is differentiable in the statistics.
    """
    gram, cross = statistics.gram, statistics.cross
    with torch.no_grad():
        inverse, condition_of, rank = _pseudo_inverse(gram, rcond)
        first = inverse @ cross
    missing = _sum_with_product(cross, gram, first, -1.0)
    return OperatorFit(_sum_with_product(first, inverse, missing), condition_of, rank)


def _sum_with_product(term: Tensor, left: Tensor, right: Tensor, factor: float = 1.0) -> Tensor:
    """term + factor left @ right of matrices (..., F, F)."""
    # In one call: of a large batch, a product of its own costs as much in fresh memory as in arithmetic.
    flat = (part.reshape(-1, *part.shape[-2:]) for part in (term, left, right))
    return torch.baddbmm(*flat, alpha=factor).view(term.shape)


def ridge_operator(statistics: GramStatistics, ridge: float, *, relative: bool = False) -> OperatorFit:
    """K = (G + s I)^-1 A.

    Args:
        statistics: batch shape (...).
        ridge: s > 0, absolute (in the units of G, a sum over pairs), or relative to the mean diagonal entry of G.
        relative: True: `ridge` is relative to that mean.

    Returns:
        The fit; its matrix is differentiable in the statistics.
    """
    if not ridge > 0:
        raise ConfigError(f"ridge must be positive, got {ridge}; use least squares for an unregularised operator.")
    gram = statistics.gram
    diagonal = gram.diagonal(dim1=-2, dim2=-1).real
    # The floor keeps an all-zero Gram matrix (no pairs) solvable; its K is zero.
    scale = diagonal.mean(-1).clamp_min(_TINY**0.5) if relative else diagonal.new_ones(())
    shift = (ridge * scale)[..., None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    regularised = gram + shift
    # Without the check of `cholesky`, which waits for the device at every call.
    factor, _ = torch.linalg.cholesky_ex(regularised)
    matrix = torch.cholesky_solve(statistics.cross, factor)
    rank = torch.full(gram.shape[:-2], gram.shape[-1], device=gram.device)
    return OperatorFit(matrix, partial(_condition, regularised.detach()), rank)


def forward_backward_operator(statistics: GramStatistics, *, rcond: float | None = None) -> OperatorFit:
    """K = (K_f K_b^-1)^1/2 with K_f = G^+ A forward in time and K_b = L^+ A* backward (Dawson et al. 2016).

    Noise of measurement in the snapshots damps the forward operator and, alike, the backward one; in K_f K_b^-1 = K^2
    the two biases cancel to first order. Of the square roots of each eigenvalue of K^2 the one nearer to what K_f does
    to its eigenvector is taken. A negative real eigenvalue of real K^2 (forward and backward disagree on a sign, which
    only noise can make them do) has no real root; it keeps the modulus, and the sign of K_f.

    Args:
        statistics: batch shape (...).
        rcond: as in :func:`least_squares_operator`, for G and for L.

    Returns:
        The fit, without gradient.
    """
    with torch.no_grad():
        forward = least_squares_operator(statistics, rcond=rcond)
        reversed_time = GramStatistics(statistics.future, statistics.cross.mH, statistics.gram, statistics.num_pairs)
        backward = least_squares_operator(reversed_time, rcond=rcond).matrix
        # Directions left out are zero in both operators. The pseudo-inverse keeps them zero; an inverse would not
        # exist.
        squares, vectors = eig(forward.matrix @ torch.linalg.pinv(backward))
        squares, vectors = squares.to(forward.matrix.device), vectors.to(forward.matrix.device)
        inverse = torch.linalg.pinv(vectors)
        seen = (inverse * (forward.matrix.to(vectors.dtype) @ vectors).mT).sum(-1)
        # Exactly zero: of a real matrix LAPACK returns a real eigenvalue with no imaginary part at all.
        if not statistics.gram.is_complex():
            squares = torch.where((squares.imag == 0) & (squares.real < 0), -squares, squares)
        roots = squares.sqrt()
        roots = torch.where((roots - seen).abs() <= (roots + seen).abs(), roots, -roots)
        matrix = (vectors * roots.unsqueeze(-2)) @ inverse
    return OperatorFit(_as(matrix, statistics.gram.dtype), forward.condition_of, forward.rank)


def denoised_statistics(statistics: GramStatistics, rank: Tensor | int | None = None) -> GramStatistics:
    """Statistics of [X Y] projected onto its leading singular directions in time: total least squares as a filter.

    Noise of measurement in X and Y alike adds its variance to G and L and biases every operator fitted on them. The
    exact snapshots have [X Y] of rank R; of the joint Gram matrix [[G, A], [A*, L]] = U S^2 U* the R leading terms are
    kept (Hemati et al. 2017), and any operator may be fitted on what they leave. The noise is taken to be of one size
    in all observables: use an orthonormal basis, not a whitened one.

    Args:
        statistics: batch shape (...).
        rank: R, for all or for each, (...); None is the number of observables, F.

    Returns:
        Statistics of the same shape, without gradient.
    """
    num_observables = statistics.num_observables
    top = torch.cat([statistics.gram, statistics.cross], -1)
    bottom = torch.cat([statistics.cross.mH, statistics.future], -1)
    values, vectors = eigh(torch.cat([top, bottom], -2).detach())
    ranks = torch.as_tensor(num_observables if rank is None else rank, device=values.device).unsqueeze(-1)
    # Eigenvalues ascend, so that the leading R are the last.
    order = torch.arange(2 * num_observables, 0, -1, device=values.device)
    kept = torch.where(order <= ranks, values.clamp_min(0.0), 0.0)
    present, future = vectors[..., :num_observables, :], vectors[..., num_observables:, :]
    weighted = present * kept.unsqueeze(-2)
    return GramStatistics(
        weighted @ present.mH, weighted @ future.mH, (future * kept.unsqueeze(-2)) @ future.mH, statistics.num_pairs
    )


def total_least_squares_operator(
    statistics: GramStatistics, rank: Tensor | int | None = None, *, rcond: float | None = None
) -> OperatorFit:
    """Least squares on :func:`denoised_statistics`: errors in X count as those in Y do.

    Returns:
        The fit, without gradient.
    """
    return least_squares_operator(denoised_statistics(statistics, rank), rcond=rcond)


def measure_preserving_operator(statistics: GramStatistics, *, rcond: float | None = None) -> OperatorFit:
    """K = G^-1/2 V U* G^1/2 with G^-1/2 A* G^-1/2 = U S V*: mpEDMD (Colbrook 2023).

    Of all K that preserve the norm of observables, |X K c| = |X c|, the one of least error |Y - X K| in that norm. Its
    spectrum lies on the unit circle, so that its dispersion is 0 by construction.

    Args:
        statistics: batch shape (...).
        rcond: as in :func:`least_squares_operator`.

    Returns:
        The fit, without gradient; directions left out are exact zero eigenvalues.
    """
    gram, cross = statistics.gram.detach(), statistics.cross.detach()
    values, vectors, condition, rank = _kept_directions(gram, rcond)
    roots = values.sqrt()
    inverse_roots = torch.where(roots > 0, 1.0 / torch.where(roots > 0, roots, 1.0), 0.0)
    whitened = inverse_roots.unsqueeze(-1) * (vectors.mH @ cross @ vectors) * inverse_roots.unsqueeze(-2)
    # Of A here, of A* in the formula: the polar factor is the adjoint of the one there. Where directions were left out
    # the singular vectors are arbitrary; the roots on either side are zero and take them out again.
    left, _, right = torch.linalg.svd(whitened)
    polar = (left @ right) * roots.unsqueeze(-2) * inverse_roots.unsqueeze(-1)
    return OperatorFit(vectors @ polar @ vectors.mH, lambda: condition, rank)


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
    # The weights of a trajectory add up to its number of pairs; one without a pair keeps a mean of zero.
    shares = weights / weights.sum(-2, keepdim=True).clamp_min(1.0)

    def centered(values: Tensor) -> Tensor:
        return values - shares.mT @ values if center else values

    cutoff = snapshots.shape[-1] * torch.finfo(snapshots.dtype).eps if rcond is None else rcond
    with torch.no_grad():
        # In place: these are as large as all windows together.
        weighted = centered(snapshots.detach()) if center else snapshots.detach().clone()
        values, basis = _leading_directions(weighted.mul_(weights.sqrt()), rank)
        largest = values[..., -1:]
        kept = (values > cutoff * largest) & (largest > 0)
        inverse = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0).unsqueeze(-1)
        smallest = torch.where(kept, values, torch.inf).amin(-1)
        condition = torch.where(kept.any(-1), (largest.squeeze(-1) / smallest).sqrt(), torch.inf)
        # Exact zeros, so that a direction left out is an eigenvalue of zero and has no gradient.
        basis = torch.where(kept.unsqueeze(-2), basis, 0.0)
    # Centred after the projection, with which it commutes: R columns instead of F.
    projected = centered(snapshots @ basis)
    symmetric = projected.mT @ (weights * projected)
    # The mask on one of two factors is enough, as each product is of the snapshots of one pair.
    cross = projected[..., :-1, :].mT @ (links * projected[..., 1:, :])
    with torch.no_grad():
        first = inverse * cross
    # One step of refinement from the detached first solution carries the gradient, as in least squares.
    return OperatorFit(first + inverse * (cross - symmetric @ first), lambda: condition, kept.sum(-1))


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
    # Divided by infinity, the directions of eigenvalues at rounding vanish; by their own root they would be noise.
    lengths = torch.where(values > 0, values, torch.inf).sqrt()
    return values, weighted.mT @ (vectors / lengths.unsqueeze(-2))


def _pseudo_inverse(gram: Tensor, rcond: float | None) -> tuple[Tensor, Callable[[], Tensor], Tensor]:
    """Pseudo-inverse of symmetric matrices, what computes the condition number of X on the directions kept, and their
    number."""
    with lapack_on_one_thread():
        factor, info = torch.linalg.cholesky_ex(gram)
        is_definite = info == 0
        # A factor with a zero on the diagonal would be refused.
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        inverse = torch.cholesky_inverse(torch.where(is_definite[..., None, None], factor, identity))
    # Above the condition number, and within F of it.
    bound = torch.linalg.matrix_norm(gram) * torch.linalg.matrix_norm(inverse)
    is_sound = is_definite & (bound < min(_CHOLESKY_CONDITION, 0.1 / _cutoff(gram, rcond)))
    rank = torch.full(bound.shape, gram.shape[-1], device=gram.device)
    if bool(is_sound.all()):
        return inverse, partial(_condition, gram), rank
    needs_care = ~is_sound
    values, vectors, condition, kept = _kept_directions(gram[needs_care], rcond)
    inverse_values = torch.where(values > 0, 1.0 / torch.where(values > 0, values, 1.0), 0.0)
    inverse[needs_care] = (vectors * inverse_values.unsqueeze(-2)) @ vectors.mH
    rank[needs_care] = kept

    def condition_of() -> Tensor:
        found = condition.new_empty(bound.shape)
        found[needs_care], found[is_sound] = condition, _condition(gram[is_sound])
        return found

    return inverse, condition_of, rank


@torch.no_grad()
def _condition(gram: Tensor) -> Tensor:
    """Condition number of X (...) from its Gram matrix, of which all directions are kept."""
    with lapack_on_one_thread():
        spectrum = torch.linalg.eigvalsh(gram)
    # The smallest eigenvalue may round to below zero, whose root is NaN: hence the floor.
    return (spectrum[..., -1] / spectrum[..., 0].clamp_min(_TINY)).sqrt()


def _cutoff(gram: Tensor, rcond: float | None) -> float:
    return gram.shape[-1] * torch.finfo(gram.dtype).eps if rcond is None else rcond


def _kept_directions(gram: Tensor, rcond: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eigenvalues of G, 0 for those below the cut-off; eigenvectors; condition of X on the rest; their number."""
    # The largest eigenvalue of a matrix of zeros may round to below zero, and then all lie above the cut-off: hence the
    # second condition.
    cutoff = _cutoff(gram, rcond)
    values, vectors = eigh(gram)
    largest = values[..., -1:]
    kept = (values > cutoff * largest) & (largest > 0)
    smallest = torch.where(kept, values, torch.inf).amin(-1)
    condition = torch.where(kept.any(-1), (largest.squeeze(-1) / smallest).sqrt(), torch.inf)
    return torch.where(kept, values, 0.0), vectors, condition, kept.sum(-1)


def _as(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix in `dtype`, its imaginary part, which is rounding, left out where that is real."""
    return matrix.to(dtype) if dtype.is_complex else matrix.real.to(dtype)
