"""Dynamical similarity analysis: the operators of delay-embedded trajectories, compared up to a rotation.

Ostrow, Eisen, Kozachkov and Fiete, "Beyond Geometry: Comparing the Temporal Structure of Computation in Neural
Circuits with Dynamical Similarity Analysis", NeurIPS 2023. Each trajectory is embedded in delays, reduced to its
leading coordinates and fitted by least squares; two operator matrices are then compared either by their eigenvalues
(:func:`~relax_rl.koopman.spectral_wasserstein`) or by Procrustes analysis over vector fields, the smallest distance
between one and any orthogonal change of coordinates of the other.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, in_its_unit, require_real
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.operators.reduction import reduce_snapshots
from relax_rl.koopman.pairs.delays import delay_embedding

__all__ = ["VectorFieldScore", "delay_operator", "delay_spectrum", "vector_field_distance"]

VectorFieldScore = Literal["angular", "euclidean"]
"""The angle between the operators as vectors, in [0, pi], blind to their size; or the norm of their difference."""

_ITERATIONS = 30


def delay_operator(x: Tensor, *, delays: int, rank: int) -> Tensor:
    """Least-squares operator (R, R) float64 of a trajectory (T, H) in the leading coordinates of its delay embedding.

    The coordinates are orthonormal in time, so that the matrix does not depend on the units of the states, and is
    defined up to an orthogonal change of coordinates.

    Args:
        x: (T, H), time along rows.
        delays: states stacked into one; 1 is no embedding.
        rank: R; fewer if the embedding has fewer directions.

    Raises:
        DataError: too short for the delays, or no more pairs than directions, where a fit is exact for any dynamics.
    """
    x = as_tensor(x, "A trajectory")
    if x.ndim != 2:
        raise DataError(f"A trajectory must be (T, H), got {tuple(x.shape)}.")
    embedded, pairs = delay_embedding(x, None, delays)
    reduction = reduce_snapshots(embedded, pairs, rank=min(rank, embedded.shape[-1]), solver="gram")
    if int(reduction.rank) >= len(pairs):
        raise DataError(
            f"A trajectory of {len(x)} states has {len(pairs)} pairs of {delays} delays, no more than its "
            f"{int(reduction.rank)} directions; lower the rank or the delays."
        )
    # In these coordinates G is the identity, and A is the operator.
    return reduction.whitened.cross


def delay_spectrum(x: Tensor, *, delays: int, rank: int) -> Tensor:
    """Eigenvalues (R,) complex128 of :func:`delay_operator`, of one step; largest modulus first."""
    values, _ = eig(delay_operator(x, delays=delays, rank=rank))
    return values[values.abs().argsort(descending=True, stable=True)]


def vector_field_distance(
    left: Tensor, right: Tensor, *, score: VectorFieldScore = "angular", num_starts: int = 64, seed: int = 0
) -> Tensor:
    """min over orthogonal C of the distance of A and C B C^T, (...) float64: a metric between dynamics.

    Zero just where two operators are the same dynamics in rotated coordinates, symmetric, and subject to the triangle
    inequality, as a distance between orbits of a group of isometries, provided the minimum is the global one. The
    problem is not convex: damped Newton steps on O(n) start from `num_starts` orthogonal matrices, drawn from both of
    its components and closed under transposition so that the distance is symmetric, and the best end counts. Of random
    matrices about a tenth of the starts ends at the minimum at n = 6, a half at n = 3.

    Args:
        left, right: operator matrices (..., R, R) of one R, real.
        score: see :data:`VectorFieldScore`.
        num_starts: even number of starts.
        seed: seed of their own generator.

    Raises:
        DataError: matrices that are not square, of one size and finite, or all zero where an angle is asked for.
        ConfigError: an unknown score or no start.
    """
    if score not in get_args(VectorFieldScore):
        raise ConfigError(f"Unknown score {score!r}; use one of {', '.join(get_args(VectorFieldScore))}.")
    if num_starts < 2 or num_starts % 2:
        raise ConfigError(f"num_starts must be an even number of at least 2, got {num_starts}.")
    left, right = (require_real(as_tensor(operator, "An operator"), "An operator") for operator in (left, right))
    if left.shape[-2:] != right.shape[-2:] or left.ndim < 2 or left.shape[-1] != left.shape[-2]:
        raise DataError(
            f"Operators must be square and of one rank to be compared up to a rotation, got {tuple(left.shape)} and "
            f"{tuple(right.shape)}; fit both with the same rank."
        )
    a, b = (matrix.detach().double() for matrix in torch.broadcast_tensors(left, right))
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise DataError("An operator holds NaN or Inf; leave out the trajectory that it comes from.")
    # A distance needs one unit for both; an angle is the same in any unit of each.
    pair, unit = in_its_unit(torch.stack([a, b]), (-2, -1) if score == "angular" else None)
    a, b = pair
    if score == "angular":
        norms = [torch.linalg.matrix_norm(matrix, keepdim=True) for matrix in (a, b)]
        if not bool((torch.minimum(*norms) > 0).all()):
            raise DataError("An operator is all zero, and has no angle to another; use score='euclidean'.")
        a, b = a / norms[0], b / norms[1]
    starts = _starts(a.shape[-1], num_starts, seed).to(a.device)
    a = a.unsqueeze(-3)
    aligned = _aligned(a, starts @ b.unsqueeze(-3) @ starts.mT)
    distances = torch.linalg.matrix_norm(a - aligned)
    if score == "angular":
        # Exact near 0 too, where the arc cosine loses half its digits.
        return (2.0 * torch.atan2(distances, torch.linalg.matrix_norm(a + aligned))).amin(-1)
    return distances.amin(-1) * unit


def _starts(size: int, count: int, seed: int) -> Tensor:
    """Orthogonal matrices (count, n, n), uniformly at random, and their transposes."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((count // 2, size, size), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    # QR chooses the signs of R as it likes; without this the matrices would not be uniform on O(n).
    half = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return torch.cat([half, half.mT])


def _aligned(target: Tensor, matrix: Tensor) -> Tensor:
    """C M C^T (..., R, R) for the orthogonal C, near the identity, that brings it locally closest to the target A.

    With C = exp(W), W skew: the gradient of |A - C M C^T|^2 / 2 is -<[E, M], A - M> along each basis matrix E, and its
    Hessian the symmetric part of <[E, A], [E', M]>. Steps that do not lower the distance are refused, and damped more.
    """
    size = matrix.shape[-1]
    rows, columns = torch.triu_indices(size, size, offset=1, device=matrix.device)
    count = len(rows)
    if count == 0:
        return matrix
    basis = matrix.new_zeros((count, size, size))
    index = torch.arange(count, device=matrix.device)
    basis[index, rows, columns], basis[index, columns, rows] = 1.0, -1.0
    identity = torch.eye(count, dtype=matrix.dtype, device=matrix.device)

    def commutators(x: Tensor) -> Tensor:
        return (basis @ x.unsqueeze(-3) - x.unsqueeze(-3) @ basis).flatten(-2)

    of_target = commutators(target)
    damping = 0.1 * torch.linalg.matrix_norm(target) * torch.linalg.matrix_norm(matrix)
    damping = damping.clamp_min(torch.finfo(matrix.dtype).tiny ** 0.5)
    error = torch.linalg.matrix_norm(target - matrix)
    for _ in range(_ITERATIONS):
        of_matrix = commutators(matrix)
        hessian = of_target @ of_matrix.mT
        hessian = 0.5 * (hessian + hessian.mT) + damping[..., None, None] * identity
        gradient = of_matrix @ (target - matrix).flatten(-2).unsqueeze(-1)
        step, _ = torch.linalg.solve_ex(hessian, gradient)
        # No more than half a turn at once; a bound on the norm, which looks the same from both operators.
        length = torch.linalg.matrix_norm(step, keepdim=True)
        step = step * (math.pi / length.clamp_min(math.pi))
        rotation = torch.linalg.matrix_exp((step.unsqueeze(-1) * basis).sum(-3))
        moved = rotation @ matrix @ rotation.mT
        moved_error = torch.linalg.matrix_norm(target - moved)
        is_better = moved_error <= error  # false for NaN, which a singular Hessian gives
        matrix = torch.where(is_better[..., None, None], moved, matrix)
        error = torch.where(is_better, moved_error, error)
        damping = torch.where(is_better, damping / 5.0, damping * 4.0)
    return matrix
