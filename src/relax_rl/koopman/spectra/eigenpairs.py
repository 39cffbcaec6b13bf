"""The spectrum of trajectories, each eigenvalue with its residual; and moduli whose gradient cannot blow up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import all_finite, trajectory_list
from relax_rl.koopman.linalg.eigensolvers import eig, lapack_on_one_thread
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.operators.reduction import Reduction, reduce_snapshots, reduce_statistics
from relax_rl.koopman.pairs.snapshots import GramStatistics, pack_trajectories
from relax_rl.koopman.spectra.dmd import DynamicModes, modes_of
from relax_rl.koopman.spectra.residuals import (
    ResidualKind,
    disjoint_folds,
    dual_residuals,
    residual_kind,
)

__all__ = [
    "MAX_EIGENVALUE_CONDITION",
    "SINGLE_TOLERANCE",
    "SPURIOUS_RESIDUAL",
    "EigenvalueModuli",
    "KoopmanSpectrum",
    "eigenpairs",
    "eigenvalue_moduli",
    "eigenvalues",
    "koopman_eigenvalues",
    "spectrum_from_statistics",
]

SPURIOUS_RESIDUAL = 0.5
"""Eigenpairs with a larger residual are called spurious. Of six modes in noise of a tenth of their size, 30 and 100
snapshots of 200 and 1000 observables, those six had dual residuals up to 0.41, and all others from 0.89 on."""

MAX_EIGENVALUE_CONDITION = 1e4
"""Bound on 1 / |w* v| (w, v: unit left and right eigenvectors), which is the norm of the gradient of one eigenvalue."""

SINGLE_TOLERANCE = 1e-3
"""Matrices whose eigenvalues single precision may move by more are solved in double precision."""


def eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., F) and unit right eigenvectors (..., F, F; columns) of real matrices, complex128, detached.

    Computed where :func:`~relax_rl.koopman.linalg.eigensolvers.solver_device` says, returned on the device of `matrix`.
    """
    eigenvalues, eigenvectors = eig(matrix)
    return eigenvalues.to(matrix.device), eigenvectors.to(matrix.device)


class _SafeEigenvalues(torch.autograd.Function):
    """Eigenvalues of real matrices with the gradient gK = Re(V^-H diag(g) V^H), each mode's share bounded.

    In real arithmetic, a quarter of the work: of a pair x + iy, x - iy the columns are x and y, the rows of the inverse
    p and q, and those of V^-1 are (p - iq) / 2 and (p + iq) / 2.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor, is_single: bool) -> tuple[Tensor, ...]:  # type: ignore[override]
        found = _decomposed(matrix, is_single)
        eigenvalues, right, left, basis, num_clamped, error = found
        ctx.save_for_backward(left, basis, _partners(eigenvalues))
        ctx.dtype = matrix.dtype
        results = (eigenvalues, num_clamped, right, error)
        values, num_clamped, vectors, error = (result.to(matrix.device) for result in results)
        # Only the values have a gradient. The vectors would pass a zero in its place, silently.
        ctx.mark_non_differentiable(num_clamped, vectors, error)
        return values, num_clamped, vectors, error

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        left, basis, partner = ctx.saved_tensors
        weights = grad_values.to(left.device, torch.promote_types(left.dtype, torch.complex32))
        other = weights.gather(-1, partner)
        # K is real, so the real part of the complex gradient is all of it: with g = a + ib, of a pair
        # (a1 + a2) / 2 (p x + q y) + (b1 - b2) / 2 (p y - q x), outer products each.
        own = (0.5 * (weights.real + other.real)).unsqueeze(-1)
        crossed = (0.5 * (weights.imag - other.imag)).unsqueeze(-1)
        rows = basis.mT
        exchanged = rows.gather(-2, partner.unsqueeze(-1).expand_as(rows))
        gradient = left.mT @ (own * rows + crossed * exchanged)
        return gradient.to(grad_values.device, ctx.dtype), None


def _decomposed(matrix: Tensor, is_single: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Eigenvalues, right vectors, bounded left rows, the real basis, clamped modes, and the error of an eigenvalue."""
    eigenvalues, right = eig(matrix, is_single=is_single)
    partner = _partners(eigenvalues)
    basis = torch.where(eigenvalues.imag.unsqueeze(-2) < 0, -right.imag, right.real)
    with lapack_on_one_thread():
        left, squares = _left_rows(basis, eigenvalues, partner)
        is_sound = squares <= MAX_EIGENVALUE_CONDITION**2  # false for NaN, which a defective V gives
        if not is_single:
            left = _bounded(left, right, eigenvalues, is_sound)
    num_clamped = (~is_sound).sum(-1)
    if not is_single:
        return eigenvalues, right, left, basis, num_clamped, torch.zeros_like(num_clamped, dtype=torch.float64)
    error = _single_error(matrix.detach().to(left.device), squares.amax(-1).sqrt())
    needs_double = ~((error <= SINGLE_TOLERANCE) & is_sound.all(-1))
    if not bool(needs_double.any()):
        return eigenvalues, right, left, basis, num_clamped, error
    exact = _decomposed(matrix.detach().to(left.device)[needs_double], False)
    # Values have the precision of each matrix; to convert the vectors of all for those of a few would cost more.
    singles = (eigenvalues.to(exact[0].dtype), right, left, basis, num_clamped)
    values, vectors, rows, columns, clamped = (
        _replaced(single, needs_double, double) for single, double in zip(singles, exact[:5], strict=True)
    )
    return values, vectors, rows, columns, clamped, torch.where(needs_double, 0.0, error)


def _replaced(values: Tensor, places: Tensor, others: Tensor) -> Tensor:
    joined = values.clone()
    joined[places] = others.to(values.dtype)
    return joined


def _single_error(matrix: Tensor, condition: Tensor) -> Tensor:
    """Bound (...) on what single precision moves an eigenvalue by: 4 sqrt(F) eps |K|_F max 1 / |w* v|.

    LAPACK's eigenvalues are those of K + E with |E| of a few eps |K|, for which sqrt(F) stands, and to first order E
    moves an eigenvalue by at most |E| / |w* v| (Golub and Van Loan, "Matrix Computations", 7.2.2).
    """
    size = torch.linalg.matrix_norm(matrix.double())
    return 4.0 * matrix.shape[-1] ** 0.5 * torch.finfo(torch.float32).eps * size * condition.double()


def _partners(eigenvalues: Tensor) -> Tensor:
    """The place (..., F) of the conjugate of each eigenvalue of a real matrix; its own for a real one."""
    # LAPACK puts the two of a pair side by side, the one with the positive imaginary part first.
    imaginary = eigenvalues.imag
    places = torch.arange(imaginary.shape[-1], device=imaginary.device)
    return places + (imaginary > 0).long() - (imaginary < 0).long()


def _left_rows(basis: Tensor, eigenvalues: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse (..., F, F) of a real basis, and |w|^2 (..., F) of the rows w* of V^-1; NaN for a defective V."""
    left, _ = torch.linalg.inv_ex(basis)
    squares = left.square().sum(-1)
    return left, torch.where(eigenvalues.imag != 0, 0.25 * (squares + squares.gather(-1, partner)), squares)


def _bounded(left: Tensor, right: Tensor, eigenvalues: Tensor, is_sound: Tensor) -> Tensor:
    """The rows with no mode's longer than the bound."""
    needs_care = ~is_sound.all(-1)
    if not bool(needs_care.any()):
        return left
    # A defective V has no inverse. The regularised one is exact on the sound modes up to 1 / bound^2 and its norm
    # is at most half the bound on the others.
    vectors = right[needs_care]
    identity = torch.eye(right.shape[-1], dtype=right.dtype, device=right.device)
    regularised = torch.linalg.solve(vectors.mH @ vectors + MAX_EIGENVALUE_CONDITION**-2 * identity, vectors.mH)
    imaginary = eigenvalues.imag[needs_care].unsqueeze(-1)
    real = torch.where(imaginary < 0, 2.0 * regularised.imag, torch.where(imaginary > 0, 2.0, 1.0) * regularised.real)
    left = left.clone()
    left[needs_care] = real
    return left


@dataclass(frozen=True)
class EigenvalueModuli:
    """Moduli of the eigenvalues of a batch of matrices."""

    values: Tensor
    """(..., F), differentiable."""
    num_clamped: Tensor
    """(...) int64: modes so nearly defective that their gradient is bounded rather than exact."""
    eigenvalues: Tensor
    """(..., F) complex128, without gradient."""
    eigenvectors: Tensor
    """(..., F, F) complex128, unit columns, without gradient."""
    error: Tensor
    """(...) float64: bound on the error of a modulus by single precision; 0 where all was computed in double."""


def eigenvalue_moduli(matrix: Tensor, *, is_single: bool = False) -> EigenvalueModuli:
    """|eigenvalues| of real matrices (..., F, F), with a gradient that is finite for every finite matrix.

    The derivative of a simple eigenvalue is w v* / (w* v), of norm 1 / |w* v|; it is exact while that norm stays below
    :data:`MAX_EIGENVALUE_CONDITION`. Beyond, as for a Jordan block, no derivative exists or it is huge (2e7 has been
    seen), and a regularised one of bounded norm takes its place, counted in `num_clamped`. |lambda| at 0 has gradient
    0. First derivatives only. Float64 inside whatever the dtype.

    Args:
        matrix: (..., F, F) real.
        is_single: solve in float32 where that moves no eigenvalue by more than :data:`SINGLE_TOLERANCE`, in float64
            elsewhere; a gradient then has the precision of float32.
    """
    values, num_clamped, vectors, error = _safe_eigenvalues(matrix, is_single)
    # |lambda| has a kink at zero, where torch takes zero, its subgradient of least norm.
    return EigenvalueModuli(values.abs().to(matrix.dtype), num_clamped, values.detach(), vectors, error)


def eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues (..., F) complex128 of real matrices (..., F, F), in no order, with a gradient that is always finite.

    Their gradient is bounded as that of :func:`eigenvalue_moduli`, and errors are the same.
    """
    return _safe_eigenvalues(matrix)[0]


def _safe_eigenvalues(matrix: Tensor, is_single: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not all_finite(matrix.detach()):
        raise DataError("Eigenvalues were asked of a matrix with NaN or Inf; exclude that trajectory first.")
    return _SafeEigenvalues.apply(matrix, is_single)  # type: ignore[return-value]


@dataclass(frozen=True)
class KoopmanSpectrum:
    """Eigenvalues of one operator matrix, largest modulus first, each with its residual."""

    eigenvalues: Tensor
    """(R,) complex128, of discrete time: one step a snapshot."""
    residuals: Tensor
    """(R,) float64, of the kind named in `residual_kind`; large means spurious."""
    eigenvectors: Tensor
    """(F, R) complex128: coefficients v of the eigenfunctions over the observables, with ||X v|| = 1."""
    num_pairs: int
    """N, of all trajectories."""
    num_observables: int
    """F."""
    condition: float
    """Condition number of X on the directions kept."""
    residual_kind: ResidualKind
    """Kind of the `residuals`: "primal", ||Y v - lambda X v|| / ||X v||; "dual", that of the left eigenvector; or
    "vacuous", zero whatever the dynamics (see :mod:`relax_rl.koopman.spectra.residuals`)."""

    @property
    def is_vacuous(self) -> bool:
        """Whether the residuals say nothing: the fit interpolates."""
        return self.residual_kind == "vacuous"

    def spurious_share(self, max_residual: float = SPURIOUS_RESIDUAL) -> float:
        """Share of the eigenvalues whose residual is above `max_residual`; NaN where residuals are vacuous."""
        if self.is_vacuous:
            return float("nan")
        return float((self.residuals > max_residual).double().mean())

    def pruned(self, max_residual: float = SPURIOUS_RESIDUAL) -> KoopmanSpectrum:
        """The eigenpairs with a residual of at most `max_residual`, maybe none.

        Raises:
            DataError: the residuals are vacuous, so that nothing tells the eigenpairs apart.
        """
        return self._chosen((self.residuals <= max_residual).nonzero().squeeze(-1))

    def most_reliable(self, count: int) -> KoopmanSpectrum:
        """The `count` eigenpairs of smallest residual, largest modulus first; all of them if there are no more.

        Raises:
            DataError: the residuals are vacuous.
        """
        return self._chosen(self.residuals.argsort(stable=True)[:count].sort().values)

    def _chosen(self, index: Tensor) -> KoopmanSpectrum:
        if self.is_vacuous:
            raise DataError(
                f"The residuals of this spectrum are vacuous ({self.num_pairs} pairs, {self.num_observables} "
                "observables, and the fit interpolates), so they cannot choose; give longer trajectories or a rank."
            )
        return replace(
            self,
            eigenvalues=self.eigenvalues[index],
            residuals=self.residuals[index],
            eigenvectors=self.eigenvectors[:, index],
        )


def koopman_eigenvalues(
    snapshots: Tensor | Sequence[Tensor],
    rank: Rank = None,
    ridge: float = 0.0,
    *,
    residual: Literal["auto", "primal", "dual"] = "auto",
) -> KoopmanSpectrum:
    """Eigenvalues of the least-squares operator of one trajectory or several, with ResDMD residuals.

    X is reduced to its leading right singular directions, and everything is computed where its Gram matrix is the
    identity, so that the condition of X is not squared (6e-15 on exact dynamics in float64).

    Args:
        snapshots: (T, F), or a list of (T_i, F) whose pairs are pooled, none across two; real or complex, time along
            rows; lifted states or the states themselves.
        rank: how many directions to keep: a number, a share of the energy, "optimal", or None for all above rounding.
        ridge: added to the Gram matrix, relative to its mean diagonal entry; 0 is plain least squares.
        residual: "auto" is the primal residual with more pairs than directions, otherwise the dual one, which takes
            every other pair at a time (see :func:`~relax_rl.koopman.spectra.residuals.dual_residuals`). Asked for
            where it is zero by construction, either is named "vacuous".

    With no more pairs than directions the operator interpolates, and the eigenvalues of one trajectory lie near the
    unit circle whatever it is; the dual residual says which to believe.

    Raises:
        DataError: snapshots that are not finite (T, F) with a pair among them, or all zero.
        ConfigError: a rank, ridge or residual that there is not.
    """
    if residual not in (*get_args(ResidualKind)[:2], "auto"):
        raise ConfigError(f"residual must be 'auto', 'primal' or 'dual', got {residual!r}.")
    trajectories = trajectory_list(snapshots, "Snapshots")
    # On the CPU: this is one small non-symmetric problem, for which a GPU is slower.
    states, pairs = pack_trajectories([t.detach().cpu() for t in trajectories])
    if not pairs.any():
        raise DataError("A spectrum needs a snapshot pair: give at least one trajectory (T, F) with T >= 2.")
    num_pairs, num_observables = int(pairs.sum()), states.shape[1]
    fit = _modes(reduce_snapshots(states, pairs, rank=rank), ridge, num_observables)
    num_directions = len(fit.eigenvalues)
    kind = residual_kind(num_pairs, num_observables, num_directions)
    residuals = fit.residuals
    if residual == "primal":
        kind = kind if kind == "primal" else "vacuous"
    elif residual == "dual" or kind != "primal":
        kind = "dual" if num_directions < num_observables else "vacuous"
        steps = pairs.nonzero().squeeze(-1)
        # Rows of the modes of the observables themselves are left eigenvectors.
        residuals = dual_residuals(
            states[steps], states[steps + 1], fit.eigenvalues, fit.modes.mH, disjoint_folds(steps)
        )
    return _spectrum(fit, residuals, kind, num_observables)


def spectrum_from_statistics(statistics: GramStatistics, rank: Rank = None, ridge: float = 0.0) -> KoopmanSpectrum:
    """The spectrum of Gram statistics of batch shape (), for when the snapshots themselves were not kept.

    The residual is the primal one, and nothing below :data:`~relax_rl.koopman.spectra.residuals.GRAM_RESIDUAL_FLOOR`
    can be told from zero; with no more pairs than directions it is vacuous. Otherwise as :func:`koopman_eigenvalues`,
    for X of a condition up to about 1e7, the directions beyond being rounding.

    Raises:
        DataError: statistics of a batch, without a pair, or not finite.
    """
    # L is not asked: statistics without it (NaN) still have eigenvalues, with residuals of NaN.
    is_finite = all(bool(torch.isfinite(part).all()) for part in (statistics.gram, statistics.cross))
    if statistics.gram.ndim != 2 or int(statistics.num_pairs) < 1 or not is_finite:
        raise DataError(
            f"A spectrum needs the finite Gram statistics of one set of pairs, got {tuple(statistics.gram.shape)} "
            f"with {statistics.num_pairs.tolist()} pairs; index or sum the batch."
        )
    fit = _modes(reduce_statistics(statistics, rank=rank), ridge, statistics.num_observables)
    kind: ResidualKind = "primal" if len(fit.eigenvalues) < int(statistics.num_pairs) else "vacuous"
    return _spectrum(fit, fit.residuals, kind, statistics.num_observables)


def _modes(reduction: Reduction, ridge: float, num_observables: int) -> DynamicModes:
    if ridge < 0:
        raise ConfigError(f"ridge must not be negative, got {ridge}.")
    if ridge == 0:
        return modes_of(reduction)
    # Relative to the mean diagonal entry of the whole Gram matrix, of which the reduced one has the largest part.
    return modes_of(reduction, variant="ridge", ridge=ridge * reduction.scales.shape[-1] / num_observables)


def _spectrum(fit: DynamicModes, residuals: Tensor, kind: ResidualKind, num_observables: int) -> KoopmanSpectrum:
    return KoopmanSpectrum(
        eigenvalues=fit.eigenvalues,
        residuals=residuals,
        eigenvectors=fit.eigenvectors,
        num_pairs=int(fit.num_pairs),
        num_observables=num_observables,
        condition=float(fit.condition),
        residual_kind=kind,
    )
