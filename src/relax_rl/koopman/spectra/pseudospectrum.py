"""The residual pseudospectrum r(z): by how much the best function at z misses being an eigenfunction.

r(z) = min over v of ||Y v - z X v|| / ||X v||, the square root of the smallest eigenvalue of
L - z A* - conj(z) A + |z|^2 in coordinates where the Gram matrix of X is the identity (Colbrook and Townsend, arXiv
2111.14889). Where it is small there is spectrum near; an eigenvalue of K where it is not is spurious.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit, trajectory_list
from relax_rl.koopman.linalg.eigensolvers import lapack_on_one_thread
from relax_rl.koopman.linalg.ranks import Rank
from relax_rl.koopman.operators.reduction import reduce_snapshots, reduce_statistics
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of, pack_trajectories
from relax_rl.koopman.spectra.residuals import disjoint_folds, residual_kind

__all__ = ["complex_grid", "pseudospectrum", "pseudospectrum_from_statistics"]


def complex_grid(radius: float = 1.25, num: int = 51) -> Tensor:
    """Points of the square [-radius, radius]^2, (num, num) complex128: imaginary part down the rows, ascending."""
    if not radius > 0 or num < 2:
        raise ConfigError(f"A grid needs a positive radius and at least 2 points a side, got {radius} and {num}.")
    axis = torch.linspace(-radius, radius, num, dtype=torch.float64)
    return torch.complex(axis.expand(num, num), axis.unsqueeze(-1).expand(num, num))


def pseudospectrum(
    snapshots: Tensor | Sequence[Tensor], points: Tensor, rank: Rank = None, *, chunk_size: int = 256
) -> Tensor:
    """r(z) of one trajectory (T, F), or of the pooled pairs of a list of them, at `points`.

    With no more pairs than directions r would be zero everywhere; then it is that of the transposed problem on pairs
    that share no snapshot, the dual one (:mod:`relax_rl.koopman.spectra.residuals`).

    Args:
        snapshots: as :func:`~relax_rl.koopman.koopman_eigenvalues` takes them.
        points: complex, any shape.
        rank: directions to keep; see there.
        chunk_size: points taken at a time; bounds memory (chunk_size R x R matrices).

    Returns:
        float64 in the shape of the points; values below 2e-8 times the norm of K are rounding.

    Raises:
        DataError: neither residual holds (as many pairs as directions as observables), or unusable snapshots.
    """
    trajectories = trajectory_list(snapshots, "Snapshots")
    states, pairs = pack_trajectories([trajectory.detach().cpu() for trajectory in trajectories])
    if not pairs.any():
        raise DataError("A pseudospectrum needs a snapshot pair: give at least one trajectory (T, F) with T >= 2.")
    reduction = reduce_snapshots(states, pairs, rank=rank)
    kind = residual_kind(int(pairs.sum()), states.shape[1], reduction.scales.shape[-1])
    if kind == "vacuous":
        raise DataError(
            f"{int(pairs.sum())} pairs of {states.shape[1]} observables have no residual that means anything; give "
            "longer trajectories, or a smaller rank."
        )
    if kind == "primal":
        return _smallest(reduction.whitened.cross, reduction.whitened.future, points, chunk_size)
    steps = pairs.nonzero().squeeze(-1)
    chosen = steps[disjoint_folds(steps) == 0]
    double, _ = in_its_unit(states.to(double_of(states.dtype)))
    # x and y in turn are a trajectory of the transposed problem whose every other neighbours are pairs.
    first, second = double[chosen].mH, double[chosen + 1].mH
    turns = torch.stack([first, second], dim=1).flatten(0, 1)
    links = torch.arange(len(turns) - 1) % 2 == 0
    transposed = reduce_snapshots(turns, links)
    # The transposed problem has the adjoint operator, whose spectrum is the conjugate one.
    return _smallest(transposed.whitened.cross, transposed.whitened.future, points.conj(), chunk_size)


def pseudospectrum_from_statistics(
    statistics: GramStatistics, points: Tensor, rank: Rank = None, *, chunk_size: int = 256
) -> Tensor:
    """r(z) from Gram statistics of batch shape () alone.

    Raises:
        DataError: no more pairs than directions.
    """
    reduction = reduce_statistics(statistics, rank=rank)
    if reduction.scales.shape[-1] >= int(statistics.num_pairs):
        raise DataError(
            f"{int(statistics.num_pairs)} pairs leave nothing to judge {reduction.scales.shape[-1]} directions by; "
            "give more pairs, or a smaller rank."
        )
    return _smallest(reduction.whitened.cross, reduction.whitened.future, points, chunk_size)


def _smallest(cross: Tensor, future: Tensor, points: Tensor, chunk_size: int) -> Tensor:
    """Square root of the smallest eigenvalue of L - z A* - conj(z) A + |z|^2 at each point."""
    if chunk_size < 1:
        raise ConfigError(f"chunk_size must be at least 1, got {chunk_size}.")
    points = as_tensor(points, "points")
    # view_as_real refuses a tensor whose conjugation is still pending.
    flat = points.resolve_conj().flatten().to(torch.complex128)
    if not cross.is_complex():
        flat = torch.complex(flat.real, flat.imag.abs())  # r(z) = r(conj(z)) for real data
    unique, inverse = torch.view_as_real(flat).unique(dim=0, return_inverse=True)
    cross, future = cross.to(torch.complex128), future.to(torch.complex128)
    identity = torch.eye(len(cross), dtype=cross.dtype)
    values = []
    with lapack_on_one_thread():
        for chunk in torch.view_as_complex(unique).split(chunk_size):
            z = chunk[:, None, None]
            matrices = future - z * cross.mH - z.conj() * cross + z.abs().square() * identity
            values.append(torch.linalg.eigvalsh(matrices)[:, 0])
    # At an eigenvalue the matrix is singular, and its smallest eigenvalue is rounding of either sign.
    return torch.cat(values).clamp_min(0.0).sqrt()[inverse].view(points.shape)
