"""Eigenpairs, their ResDMD residuals, and eigenvalue moduli whose gradient cannot blow up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.eigensolvers import eig, lapack_on_one_thread
from relax_rl.koopman.residuals import squared_residuals

__all__ = [
    "MAX_EIGENVALUE_CONDITION",
    "EigenvalueModuli",
    "KoopmanSpectrum",
    "eigenpairs",
    "eigenvalue_moduli",
    "koopman_eigenvalues",
    "squared_residuals",
]

MAX_EIGENVALUE_CONDITION = 1e4
"""Bound on 1 / |w* v| (w, v: unit left and right eigenvectors), which is the norm of the gradient of one eigenvalue."""


def eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., F) and unit right eigenvectors (..., F, F; columns) of real matrices, complex128, detached.

    Computed on the CPU (see :func:`~relax_rl.koopman.eigensolvers.eig`) and returned on the device of `matrix`.
    """
    eigenvalues, eigenvectors = eig(matrix)
    return eigenvalues.to(matrix.device), eigenvectors.to(matrix.device)


class _SafeModuli(torch.autograd.Function):
    """|eigenvalues| with the gradient gK = V^-H diag(g lambda / |lambda|) V^H, each mode's share bounded."""

    @staticmethod
    def forward(ctx, matrix: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        eigenvalues, right = eig(matrix)
        with lapack_on_one_thread():
            left, num_clamped = _bounded_left_eigenvectors(right)
        moduli = eigenvalues.abs()
        # |lambda| has a kink at zero; zero is its subgradient of least norm.
        phases = torch.where(moduli > 0, eigenvalues / moduli.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        ctx.save_for_backward(left, phases, right)
        moduli, num_clamped = moduli.to(matrix.device, matrix.dtype), num_clamped.to(matrix.device)
        ctx.mark_non_differentiable(num_clamped)
        return moduli, num_clamped

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_moduli: Tensor, _grad_count: Tensor) -> Tensor:  # type: ignore[override]
        left, phases, right = ctx.saved_tensors
        weights = grad_moduli.to("cpu", torch.float64) * phases
        gradient = (left.mH * weights.unsqueeze(-2)) @ right.mH
        return gradient.real.to(grad_moduli.device, grad_moduli.dtype)


def _bounded_left_eigenvectors(right: Tensor) -> tuple[Tensor, Tensor]:
    """Rows w* of V^-1 (..., F, F), no row longer than the bound, and how many rows had to be shortened (...)."""
    left, _ = torch.linalg.inv_ex(right)
    norms = torch.linalg.vector_norm(left, dim=-1)
    is_sound = norms <= MAX_EIGENVALUE_CONDITION  # false for NaN, which a defective V gives
    needs_care = ~is_sound.all(-1)
    if needs_care.any():
        # A defective V has no inverse. The regularised one is exact on the sound modes up to 1 / bound^2 and its norm
        # is at most half the bound on the others.
        vectors = right[needs_care]
        identity = torch.eye(right.shape[-1], dtype=right.dtype)
        regularised = torch.linalg.solve(vectors.mH @ vectors + MAX_EIGENVALUE_CONDITION**-2 * identity, vectors.mH)
        left = left.clone()
        left[needs_care] = regularised
    return left, (~is_sound).sum(-1)


@dataclass(frozen=True)
class EigenvalueModuli:
    """Moduli of the eigenvalues of a batch of matrices."""

    values: Tensor
    """(..., F), differentiable."""
    num_clamped: Tensor
    """(...) int64: modes so nearly defective that their gradient is bounded rather than exact."""


def eigenvalue_moduli(matrix: Tensor) -> EigenvalueModuli:
    """|eigenvalues| of real matrices (..., F, F), with a gradient that is finite for every finite matrix.

    The derivative of a simple eigenvalue is w v* / (w* v), of norm 1 / |w* v|; it is exact while that norm stays below
    :data:`MAX_EIGENVALUE_CONDITION`. Beyond, as for a Jordan block, no derivative exists or it is huge (2e7 has been
    seen), and a regularised one of bounded norm takes its place, counted in `num_clamped`. |lambda| at 0 has gradient
    0. First derivatives only. Float64 inside whatever the dtype.
    """
    if not torch.isfinite(matrix.detach()).all():
        raise DataError("Eigenvalues were asked of a matrix with NaN or Inf; exclude that trajectory first.")
    values, num_clamped = _SafeModuli.apply(matrix)  # type: ignore[misc]
    return EigenvalueModuli(values, num_clamped)


@dataclass(frozen=True)
class KoopmanSpectrum:
    """Eigenvalues of one trajectory's operator matrix, largest modulus first, each with its residual."""

    eigenvalues: Tensor
    """(R,) complex128, of discrete time: one step a snapshot."""
    residuals: Tensor
    """(R,) float64: ResDMD residual ||Y v - lambda X v|| / ||X v||; large means spurious."""
    eigenvectors: Tensor
    """(F, R) complex128: coefficients v of the eigenfunctions over the observables."""
    num_pairs: int
    """N = T - 1."""
    condition: float
    """Condition number of X on the directions kept."""
    is_vacuous: bool
    """No more pairs than directions: the fit interpolates, so that residuals are zero whatever the dynamics."""


def koopman_eigenvalues(snapshots: Tensor, rank: int | None = None, ridge: float = 0.0) -> KoopmanSpectrum:
    """Eigenvalues of the least-squares operator of one trajectory, with ResDMD residuals (QR form).

    X is reduced to its `rank` leading right singular directions, X = Q R, and K = R^-1 Q^T Y, never through the Gram
    matrix, so that the condition of X is not squared.

    Args:
        snapshots: (T, F) real, time along rows; lifted states or the states themselves.
        rank: number of directions to keep; None keeps all that are above rounding.
        ridge: added to the Gram matrix, relative to its mean diagonal entry; 0 is plain least squares.

    Raises:
        DataError: snapshots that are not a finite (T, F) with T >= 2.
        ConfigError: a rank outside 1..F or a negative ridge.
    """
    if snapshots.ndim != 2 or snapshots.shape[0] < 2 or snapshots.shape[1] < 1:
        raise DataError(f"Snapshots must be (T, F) with T >= 2 and F >= 1, got {tuple(snapshots.shape)}.")
    if not torch.isfinite(snapshots).all():
        raise DataError("The snapshots hold NaN or Inf; remove that trajectory before asking for its spectrum.")
    if rank is not None and not 1 <= rank <= snapshots.shape[1]:
        raise ConfigError(f"rank must lie in 1..{snapshots.shape[1]} (the number of observables), got {rank}.")
    if ridge < 0:
        raise ConfigError(f"ridge must not be negative, got {ridge}.")
    states = snapshots.detach().to("cpu", torch.float64)
    x, y = states[:-1], states[1:]
    num_pairs, num_observables = x.shape
    _, singular_values, directions = torch.linalg.svd(x, full_matrices=False)
    cutoff = max(x.shape) * torch.finfo(torch.float64).eps * singular_values[0]
    kept = min(rank or num_observables, int((singular_values > cutoff).sum()))
    if kept == 0:
        raise DataError("The snapshots are all zero, so there are no dynamics to fit.")
    basis = directions[:kept].T
    q, r = torch.linalg.qr(x @ basis)
    reduced_future = y @ basis
    shift = ridge * float(singular_values.square().sum()) / num_observables
    matrix = (
        torch.linalg.solve(r.T @ r + shift * torch.eye(kept), r.T @ (q.T @ reduced_future))
        if shift
        else (torch.linalg.solve_triangular(r, q.T @ reduced_future, upper=True))
    )
    eigenvalues, vectors = torch.linalg.eig(matrix)
    order = eigenvalues.abs().argsort(descending=True)
    eigenvalues, vectors = eigenvalues[order], vectors[:, order]
    present = q.to(vectors.dtype) @ (r.to(vectors.dtype) @ vectors)
    future = reduced_future.to(vectors.dtype) @ vectors
    residuals = torch.linalg.vector_norm(future - eigenvalues * present, dim=0)
    return KoopmanSpectrum(
        eigenvalues=eigenvalues,
        residuals=residuals / torch.linalg.vector_norm(present, dim=0),
        eigenvectors=basis.to(vectors.dtype) @ vectors,
        num_pairs=num_pairs,
        condition=float(singular_values[0] / singular_values[kept - 1]),
        is_vacuous=num_pairs <= num_observables,
    )
