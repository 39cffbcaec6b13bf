"""ResDMD residuals: how far from invariant an eigenfunction is, and whether the data can tell at all.

For an eigenpair (lambda, v) of an operator matrix K fitted on N snapshot pairs X, Y (N, F), Y ~ X K,

    primal   ||Y v - lambda X v|| / ||X v||            (Colbrook and Townsend, arXiv 2111.14889),
    dual     ||Y* a - conj(lambda) X* a|| / ||X* a||   (Colbrook, arXiv 2403.05891), a* X a left eigenvector of K.

The primal one asks whether the dynamics leave the span of the observables. With no more pairs than directions, R = N,
no data are left to ask: every residual is zero, of pure noise too. The dual one, the primal one of the transposed
problem, asks whether they leave the span of the snapshots; with R = F directions that is all of space, and it is zero
in its turn. So of R directions, N pairs and F observables: R < N has a primal residual, R < F a dual one, and R = N = F
neither.

On stationary data ||Y v|| = ||X v||, and the primal residual of a least-squares eigenpair is sqrt(1 - |lambda|^2): what
decays or is random cannot have a small one. On one sample of a random system a point, the primal residual measures
variance as well; two samples a point tell them apart (:func:`mean_residuals`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of

__all__ = [
    "GRAM_RESIDUAL_FLOOR",
    "ResidualKind",
    "disjoint_folds",
    "dual_residuals",
    "gram_residuals",
    "mean_residuals",
    "primal_residuals",
    "residual_kind",
    "squared_residuals",
]

ResidualKind = Literal["primal", "dual", "vacuous"]
"""Kind of the residual: "vacuous" is zero by construction and says nothing."""

GRAM_RESIDUAL_FLOOR = 4e-8
"""Residuals from Gram statistics below this are rounding: the square root of float64's, as terms of size 1 cancel."""


def residual_kind(num_pairs: int, num_observables: int, rank: int) -> ResidualKind:
    """The residual that R = `rank` directions of N pairs of F observables can have; primal where both hold."""
    if rank < num_pairs:
        return "primal"
    return "dual" if rank < num_observables else "vacuous"


def primal_residuals(x: Tensor, y: Tensor, eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """||Y v - lambda X v|| / ||X v|| of any eigenpairs, (..., R) float64; accurate to rounding times ||Y|| ||v||.

    No Gram matrix is formed, so nothing cancels: 6e-15 is reached on exact dynamics. Where X is ill-conditioned give
    it whitened (the orthonormal Q of X = QR, Y R^-1 and R v), as :func:`~relax_rl.koopman.koopman_eigenvalues` does.
    The residual is that of the pair given, whichever method it is from (ridge, total least squares, kernel).

    Args:
        x, y: (..., N, F) real or complex, first and second snapshots of the pairs; rows of zeros (padding) count for
            nothing, rows times the square root of a quadrature weight count by it.
        eigenvalues: (..., R) of discrete time.
        eigenvectors: (..., F, R), columns v, of any length; a column of zeros has a residual of NaN.

    With no more pairs than directions it is zero whatever the data: ask :func:`residual_kind`.
    """
    _require_pairs(x, y)
    vectors = eigenvectors.to(torch.complex128)
    present = _complex_product(x, vectors)
    error = _complex_product(y, vectors) - eigenvalues.unsqueeze(-2) * present
    return _lengths(error) / _lengths(present)


def _lengths(columns: Tensor) -> Tensor:
    """2-norms of complex columns (..., N, R); torch's own along the rows is several times as slow."""
    return (columns.real.square().sum(-2) + columns.imag.square().sum(-2)).sqrt()


def _complex_product(states: Tensor, vectors: Tensor) -> Tensor:
    """states @ vectors; of real states by one real product with both parts, half of the work of a complex one."""
    if states.is_complex():
        return states.to(torch.complex128) @ vectors
    real, imaginary = (states.double() @ torch.cat([vectors.real, vectors.imag], -1)).chunk(2, -1)
    return torch.complex(real, imaginary)


def dual_residuals(
    x: Tensor, y: Tensor, eigenvalues: Tensor, left_eigenvectors: Tensor, folds: Tensor | None = None
) -> Tensor:
    """Residuals of left eigenpairs w* K = lambda w*, (R,) float64, for no more pairs than observables.

    w* = a* X for the coefficients a = pinv(X*) w over snapshots, and the residual is ||Y* a - conj(lambda) X* a|| /
    ||X* a||: by how much the operator takes w* out of the span of the snapshots. (arXiv 2403.05891, there as
    v* L v / v* v - |lambda|^2 with L from Y Y*, which cancels; this does not.)

    Consecutive pairs of one trajectory need `folds`. Each second snapshot but the last is the first of another pair,
    and so lies in their span whatever the dynamics: of noise in T snapshots K is a companion matrix, with eigenvalues
    near the unit circle and a plain dual residual of about 1 / sqrt(T) (0.32 at T = 30, 0.06 at T = 300; with folds
    1.3).

    Args:
        x, y: (N, F) real or complex.
        eigenvalues: (R,).
        left_eigenvectors: (F, R), columns w; what is outside the span of the rows of X is left out.
        folds: (N,) int64: pairs of one fold share no snapshot (:func:`disjoint_folds`). The residual is taken in each
            fold, and its root mean square over the folds returned; pairs of a negative fold are left out. None is one.
    """
    _require_pairs(x, y)
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device) if folds is None else folds
    precision, left_eigenvectors = x.dtype, in_its_unit(left_eigenvectors)[0]
    x, y = in_its_unit(torch.stack([x, y]))[0]
    squares = []
    for label in labels[labels >= 0].unique():
        first, second = x[labels == label].mH, y[labels == label].mH
        # Coordinates in an orthonormal basis of the snapshots: Y* a = Y* R^-1 (Q* w), with the pseudo-inverse of R.
        q, r = torch.linalg.qr(first.to(double_of(x.dtype)))
        # Directions at the rounding of the input are none of the dynamics'.
        rcond = max(torch.finfo(precision).eps, max(first.shape) * torch.finfo(torch.float64).eps)
        inverse = torch.linalg.pinv(r, rtol=rcond).to(torch.complex128)
        coefficients = inverse @ (q.mH.to(torch.complex128) @ left_eigenvectors.to(torch.complex128))
        # The residual of each fold by its own snapshots, all with the eigenpairs of the whole fit.
        squares.append(primal_residuals(first, second, eigenvalues.conj(), coefficients).square())
    return torch.stack(squares).mean(0).sqrt()


def disjoint_folds(steps: Tensor) -> Tensor:
    """Folds 0 and 1, or -1 for neither, of the snapshot pairs at `steps` (N,) of a trajectory, (N,) int64.

    Pairs of one fold are 2 or 3 steps apart in the order of floor(2.618.. k), which is never periodic: where every
    other step is seen, modes lambda and -lambda are one.
    """
    golden = (1.0 + 5.0**0.5) / 2.0
    starts = (torch.arange(int(steps.max()) + 1, device=steps.device) * (1.0 + golden)).floor().long()
    first, second = torch.isin(steps, starts), torch.isin(steps, starts + 1)
    return torch.where(first, 0, torch.where(second, 1, -1))


def mean_residuals(
    x: Tensor, y: Tensor, second: Tensor, eigenvalues: Tensor, eigenvectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Residual of the mean dynamics and its variance, of a random system sampled twice at each point.

    With one sample a point, the primal residual is the *variance residual*, res^2 = ||E[y] v - lambda x v||^2 +
    E||y v - E[y] v||^2 (Colbrook, Li, Raut and Townsend, arXiv 2308.10697). With a second one, independent of the first
    given x, the product of the two errors has the first term alone as its mean.

    Args:
        x, y, second: (..., N, F); `y` and `second` drawn from the same x independently.
        eigenvalues, eigenvectors: as in :func:`primal_residuals`.

    Returns:
        The residual of the mean dynamics (..., R), zero where sampling makes its square negative, and the relative
        standard deviation sqrt(E||y v - E[y] v||^2 / ||x v||^2) (..., R).
    """
    _require_pairs(x, y)
    _require_pairs(x, second)
    vectors = eigenvectors.to(torch.complex128)
    present = x.to(torch.complex128) @ vectors
    first_error, second_error = (
        sample.to(torch.complex128) @ vectors - eigenvalues.unsqueeze(-2) * present for sample in (y, second)
    )
    norm = present.abs().square().sum(-2)
    squared_mean = (first_error.conj() * second_error).real.sum(-2) / norm
    squared_total = 0.5 * (first_error.abs().square() + second_error.abs().square()).sum(-2) / norm
    # Both are differences of sample means, and may come out negative.
    return squared_mean.clamp_min(0.0).sqrt(), (squared_total - squared_mean).clamp_min(0.0).sqrt()


def gram_residuals(statistics: GramStatistics, eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """Primal residuals (..., R) float64 from Gram statistics alone, those below the floor raised to it.

    Terms of size 1 cancel in the formula of :func:`squared_residuals`, so that nothing below
    :data:`GRAM_RESIDUAL_FLOOR` can be told from zero. From float32 sums the floor would be 8e-4; ours are float64.
    """
    squared = squared_residuals(statistics, eigenvalues, eigenvectors)
    return squared.clamp_min(GRAM_RESIDUAL_FLOOR**2).sqrt()


def squared_residuals(statistics: GramStatistics, eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """Squared relative residuals of eigenpairs, (..., R) real float64, differentiable in the statistics only.

    ResDMD (Colbrook and Townsend; Eq. 12 of the ReLaX paper), relative to the size of the eigenfunction:
    ``res^2 = v* (L - lambda A* - conj(lambda) A + |lambda|^2 G) v / v* G v``. Lambda belongs to A*, not to A. A small
    negative value is the rounding of a residual that is zero.
    """
    values, vectors = eigenvalues.detach(), eigenvectors.detach()
    # A real matrix with complex vectors goes in real arithmetic, which is half the work.
    form = _complex_form if statistics.gram.is_complex() or not vectors.is_complex() else _real_form
    norm, _ = form(statistics.gram, vectors)
    cross, cross_imaginary = form(statistics.cross, vectors)
    future, _ = form(statistics.future, vectors)
    # Re(conj(lambda) v* A v). With lambda in place of its conjugate the sign of the imaginary part would be wrong,
    # which no real spectrum would show.
    cross = values.real * cross + values.imag * cross_imaginary if values.is_complex() else values * cross
    numerator = future - 2.0 * cross + values.abs().square() * norm
    # A vector with no part in the data has v* G v = 0; the floor keeps 0 / 0 out of the value and of the gradient.
    return numerator / norm.clamp_min(torch.finfo(torch.float64).tiny)


def _complex_form(matrix: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of v* M v for each column v."""
    form = (vectors.conj() * (matrix.to(vectors.dtype) @ vectors)).sum(-2)
    return (form.real, form.imag) if form.is_complex() else (form, torch.zeros_like(form))


def _real_form(matrix: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The same for real M, in half the work."""
    real, imaginary = vectors.real.contiguous(), vectors.imag.contiguous()
    product_real, product_imaginary = (matrix @ torch.cat([real, imaginary], dim=-1)).chunk(2, dim=-1)
    return (
        (real * product_real + imaginary * product_imaginary).sum(-2),
        (real * product_imaginary - imaginary * product_real).sum(-2),
    )


def _require_pairs(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim < 2:
        raise DataError(
            f"X and Y must be snapshot pairs of one shape (..., N, F), got {tuple(x.shape)} and {tuple(y.shape)}."
        )
