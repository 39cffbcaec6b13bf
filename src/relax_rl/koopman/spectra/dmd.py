"""Dynamic mode decomposition: eigenvalues, eigenfunctions and modes of snapshots, lifted or not.

Time runs along rows, so that with eigenfunctions phi(x) = x V (1, R) and modes M (R, H), a row each,

    x_t ~ phi(x_t) M,    phi(x_{t+1}) ~ phi(x_t) Lambda.

(PyDMD puts snapshots and modes in columns.) Eigenvalues are of discrete time; `continuous_eigenvalues` divides by dt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.operators.fits import (
    forward_backward_operator,
    least_squares_operator,
    measure_preserving_operator,
    total_least_squares_operator,
)
from relax_rl.koopman.operators.instruments import INSTRUMENTS, instrumental_operator
from relax_rl.koopman.operators.reduction import Reduction, Solver, reduce_snapshots, reduce_statistics
from relax_rl.koopman.pairs.lags import lagged_statistics
from relax_rl.koopman.pairs.snapshots import GramStatistics, joined_snapshots, paired_snapshots
from relax_rl.koopman.spectra.residuals import gram_residuals, primal_residuals

__all__ = ["DynamicModes", "Modes", "Variant", "dmd", "dmd_from_statistics", "edmd", "modes_of", "modes_of_operator"]

Variant = Literal[
    "least_squares", "ridge", "forward_backward", "total_least_squares", "measure_preserving", "instrumental"
]
"""The operator that is fitted in the reduced coordinates (see :mod:`relax_rl.koopman.operators.fits` and, for
"instrumental", :mod:`relax_rl.koopman.operators.instruments`)."""

Modes = Literal["projected", "exact"]
"""Modes by regression of the states on the eigenfunctions, at the same time, or one step later ("exact", Tu et al.
2014): the latter reach out of the span of the first snapshots. An eigenvalue of 0 has no exact mode, and keeps the
other."""


@dataclass(frozen=True)
class DynamicModes:
    """A spectrum with its eigenfunctions and modes, largest modulus first; in a batch, padded to the largest rank."""

    eigenvalues: Tensor
    """(..., R) complex128, of discrete time; exactly 0 where padded."""
    eigenvectors: Tensor
    """(..., F, R) complex128: eigenfunctions over the observables (for a kernel: over its sections)."""
    modes: Tensor
    """(..., R, H) complex128."""
    residuals: Tensor
    """(..., R) primal ResDMD residuals ||Y v - lambda X v|| / ||X v||; NaN where padded. Zero by construction, and
    without meaning, where `is_interpolating`; see :func:`~relax_rl.koopman.spectra.residuals.dual_residuals` then."""
    singular_values: Tensor
    """(..., R) of X, those kept."""
    condition: Tensor
    """(...) condition number of X on the directions kept."""
    rank: Tensor
    """(...) int64, number of directions kept."""
    num_pairs: Tensor
    """(...) int64."""

    @property
    def is_interpolating(self) -> Tensor:
        """(...) bool: no fewer directions than pairs, so that the fit is exact whatever the data."""
        return self.rank >= self.num_pairs

    def continuous_eigenvalues(self, dt: float) -> Tensor:
        """log(lambda) / dt, (..., R): growth rate + i angular frequency, per unit of dt; -inf where lambda is 0.

        Raises:
            ConfigError: dt is not positive.
        """
        if not dt > 0:
            raise ConfigError(f"dt, the time between two snapshots, must be positive, got {dt}.")
        return self.eigenvalues.log() / dt

    def eigenfunctions(self, observables: Tensor) -> Tensor:
        """phi(x), (..., N, R), of lifted states (..., N, F)."""
        return observables.to(self.eigenvectors.dtype) @ self.eigenvectors

    def forecast(self, observables: Tensor, steps: int) -> Tensor:
        """States 1..steps after the lifted states (..., F): (..., steps, H), real for real observables."""
        powers = self.eigenvalues.unsqueeze(-2) ** torch.arange(1, steps + 1).to(self.eigenvalues.device).unsqueeze(-1)
        states = (self.eigenfunctions(observables.unsqueeze(-2)) * powers) @ self.modes
        return states if observables.is_complex() else states.real


def dmd(
    snapshots: Tensor | Sequence[Tensor],
    pairs: Tensor | None = None,
    *,
    rank: Rank = None,
    variant: Variant = "least_squares",
    modes: Modes = "projected",
    ridge: float = 0.0,
    solver: Solver = "auto",
    seed: int = 0,
) -> DynamicModes:
    """Dynamic mode decomposition of one trajectory, of several pooled, or of each in a batch; without gradient.

    Args:
        snapshots: (..., T, F) real or complex, time along rows, any precision; computed in double precision. A list of
            (T_i, F) is several trajectories that share one operator.
        pairs: (..., T-1) bool, which neighbours are snapshot pairs, such as `snapshot_pairs(mask)` of a padded batch;
            None: all are, within each trajectory of a list.
        rank: directions of X to keep: a number, a share of the energy, "optimal", None (all above rounding).
        variant: see :data:`Variant`.
        modes: see :data:`Modes`.
        ridge: ridge of the variant "ridge", relative to the mean square of the singular values kept.
        solver: how X is decomposed; see :data:`~relax_rl.koopman.operators.reduction.Solver`.
        seed: seed of the randomised solver.

    Raises:
        DataError: nothing to fit, NaN or Inf in a pair, or shapes that do not belong together.
        ConfigError: a setting out of range.
    """
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    reduction = reduce_snapshots(snapshots, pairs, rank=rank, solver=solver, seed=seed)
    return modes_of(reduction, variant=variant, modes=modes, ridge=ridge)


def edmd(
    states: Tensor | Sequence[Tensor],
    pairs: Tensor | None = None,
    *,
    observables: Callable[[Tensor], Tensor],
    rank: Rank = None,
    variant: Variant = "least_squares",
    modes: Modes = "projected",
    ridge: float = 0.0,
    solver: Solver = "auto",
) -> DynamicModes:
    """Extended DMD: the same on `observables(states)`, (..., T, H) -> (..., T, F), with modes of the states.

    The observables may be a dictionary of this package or any function; everything else is as in :func:`dmd`. States
    outside every pair are lifted as zeros, so that padding may hold anything.
    """
    states, pairs = joined_snapshots(states, pairs)
    states = torch.where(
        paired_snapshots(pairs).unsqueeze(-1), states, torch.zeros((), dtype=states.dtype, device=states.device)
    )
    lifted = as_tensor(observables(states), "what `observables` returns")
    reduction = reduce_snapshots(lifted, pairs, rank=rank, solver=solver, states=states)
    return modes_of(reduction, variant=variant, modes=modes, ridge=ridge)


def dmd_from_statistics(
    statistics: GramStatistics,
    *,
    rank: Rank = None,
    variant: Variant = "least_squares",
    modes: Modes = "projected",
    ridge: float = 0.0,
) -> DynamicModes:
    """The same from Gram statistics alone, (...): for data that were streamed, or are too many to keep.

    Squares the condition of X, and residuals below 4e-8 are rounding. Modes are those of the observables.
    """
    return modes_of(reduce_statistics(statistics, rank=rank), variant=variant, modes=modes, ridge=ridge)


def modes_of(
    reduction: Reduction, *, variant: Variant = "least_squares", modes: Modes = "projected", ridge: float = 0.0
) -> DynamicModes:
    """Fit the operator in reduced coordinates, and take its spectrum back to the observables and the states."""
    if modes not in get_args(Modes):
        raise ConfigError(f"Unknown modes {modes!r}; use one of {', '.join(get_args(Modes))}.")
    return modes_of_operator(reduction, _whitened_matrix(reduction, variant, ridge), modes=modes)


def modes_of_operator(reduction: Reduction, matrix: Tensor, *, modes: Modes = "projected") -> DynamicModes:
    """The spectrum of an operator (..., R, R) in whitened coordinates, taken back to the observables and the states."""
    values, vectors = (result.to(matrix.device) for result in eig(matrix))
    # Stable, so that the two of a conjugate pair, equal in modulus, stay neighbours, positive frequency first: KoopSTD
    # counts on it.
    order = values.abs().argsort(dim=-1, descending=True, stable=True)
    values = values.gather(-1, order)
    vectors = vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))
    inverse = _inverse(vectors)
    complexes = vectors.dtype
    projected = inverse @ reduction.present.to(complexes)
    advanced = inverse @ reduction.future.to(complexes)
    # From the snapshots where they are given: no Gram matrix is formed, and nothing cancels.
    if reduction.first is None or reduction.second is None:
        residuals = gram_residuals(reduction.whitened, values, vectors)
    else:
        residuals = primal_residuals(reduction.first, reduction.second, values, vectors)
    # NaN, not zero: a padded place must not pass for a perfect eigenpair.
    is_padding = torch.arange(values.shape[-1], device=values.device) >= reduction.rank.unsqueeze(-1)
    return DynamicModes(
        eigenvalues=values,
        eigenvectors=reduction.coefficients.to(complexes) @ vectors,
        modes=projected if modes == "projected" else _exact(projected, advanced, values),
        residuals=torch.where(is_padding, torch.nan, residuals),
        singular_values=reduction.scales,
        condition=reduction.condition,
        rank=reduction.rank,
        num_pairs=reduction.num_pairs,
    )


def _whitened_matrix(reduction: Reduction, variant: Variant, ridge: float) -> Tensor:
    """The operator in whitened coordinates, (..., R, R)."""
    if variant not in get_args(Variant):
        raise ConfigError(f"Unknown variant {variant!r}; use one of {', '.join(get_args(Variant))}.")
    if (variant == "ridge") != (ridge > 0):
        raise ConfigError(f"A positive ridge belongs to the variant 'ridge' alone, got ridge={ridge} with {variant!r}.")
    if variant == "least_squares":
        return least_squares_operator(reduction.whitened).matrix
    if variant == "forward_backward":
        return forward_backward_operator(reduction.whitened).matrix
    if variant == "measure_preserving":
        return measure_preserving_operator(reduction.whitened).matrix
    if variant == "instrumental":
        lagged = lagged_statistics(*reduction.sequence(), INSTRUMENTS + 2)
        if not bool((lagged.num_windows > 0).any()):
            raise DataError(
                f"The variant 'instrumental' needs {INSTRUMENTS} snapshots before a pair, and no trajectory has "
                f"{INSTRUMENTS + 2} in a row; give longer ones, or use another variant."
            )
        return instrumental_operator(lagged).matrix
    # These two depend on the units of the observables beside one another, in the orthonormal coordinates.
    scales, _ = in_its_unit(reduction.scales, (-1,))
    if variant == "ridge":
        energy = scales.square()
        shift = ridge * energy.sum(-1, keepdim=True) / reduction.rank.clamp_min(1).unsqueeze(-1)
        shrinkage = torch.where(scales > 0, energy / torch.where(scales > 0, energy + shift, 1.0), 0.0)
        return shrinkage.unsqueeze(-1) * least_squares_operator(reduction.whitened).matrix
    orthonormal = reduction.whitened.changed_basis(torch.diag_embed(scales).to(reduction.whitened.gram.dtype))
    matrix = total_least_squares_operator(orthonormal, reduction.rank).matrix
    inverse = torch.where(scales > 0, 1.0 / torch.where(scales > 0, scales, 1.0), 0.0)
    return scales.unsqueeze(-1) * matrix * inverse.unsqueeze(-2)


def _inverse(vectors: Tensor) -> Tensor:
    """Inverse of the eigenvectors; of defective ones, which have none, the pseudo-inverse."""
    # Not `inv`, which raises for the whole batch where one matrix is defective.
    inverse, info = torch.linalg.inv_ex(vectors)
    if bool((info > 0).any()) or not bool(torch.isfinite(inverse).all()):
        return torch.linalg.pinv(vectors)
    return inverse


def _exact(projected: Tensor, advanced: Tensor, values: Tensor) -> Tensor:
    largest = values.abs().amax(-1, keepdim=True)
    # Relative to the largest: dividing by an eigenvalue at rounding would give a mode of noise.
    is_zero = (values.abs() <= values.shape[-1] * torch.finfo(torch.float64).eps * largest).unsqueeze(-1)
    return torch.where(is_zero, projected, advanced / torch.where(is_zero, 1.0, values.unsqueeze(-1)))
