"""Reduced-rank regression: of all operators of a given rank, the one of least prediction error.

DMD cuts the directions of X by their variance before it looks at Y. Here the rank is that of the operator, and the
directions kept are those of Y that X predicts (Kostic et al. 2022, "Learning dynamical systems via Koopman operator
regression in reproducing kernel Hilbert spaces", Theorem 1, on finitely many observables).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.linalg.eigensolvers import eigh
from relax_rl.koopman.operators.reduction import reduce_snapshots
from relax_rl.koopman.pairs.snapshots import joined_snapshots
from relax_rl.koopman.spectra.dmd import DynamicModes, modes_of_operator

__all__ = ["reduced_rank_dmd"]


def reduced_rank_dmd(
    snapshots: Tensor | Sequence[Tensor], pairs: Tensor | None = None, *, rank: int, ridge: float = 0.0
) -> DynamicModes:
    """The operator K of rank at most `rank` that minimises ||Y - X K||^2 + ridge s^2 ||K||^2; without gradient.

    Args:
        snapshots: (..., T, F) real or complex, or a list of (T_i, F).
        pairs: (..., T-1) bool; None: all neighbours, within each trajectory of a list.
        rank: rank of the operator, at least 1.
        ridge: relative to s^2, the mean square of the singular values of X; at least 0.

    Returns:
        The spectrum; all eigenvalues but `rank` are 0.

    Raises:
        DataError: nothing to fit, NaN or Inf in a pair.
        ConfigError: a rank below 1 or a negative ridge.
    """
    if rank < 1 or ridge < 0:
        raise ConfigError(f"rank must be at least 1 and ridge at least 0, got {rank} and {ridge}.")
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    reduction = reduce_snapshots(snapshots, pairs)
    # Squared below, and the operator has no unit.
    scales, _ = in_its_unit(reduction.scales)
    energy = scales.square()
    shift = ridge * energy.sum(-1, keepdim=True) / reduction.rank.clamp_min(1).unsqueeze(-1)
    shrinkage = torch.where(scales > 0, energy / torch.where(scales > 0, energy + shift, 1.0), 0.0).unsqueeze(-1)
    # In orthonormal coordinates of the observables, in which the error is measured: A = Q* Y V.
    cross = reduction.whitened.cross * scales.unsqueeze(-2)
    # Y explained: A* (1 + shift / S^2)^-1 A. Its leading eigenvectors are the directions of Y to keep.
    explained = cross.mH @ (shrinkage * cross)
    _, vectors = eigh(0.5 * (explained + explained.mH))
    leading = vectors[..., -rank:]
    inverse = torch.where(scales > 0, 1.0 / torch.where(scales > 0, scales, 1.0), 0.0).unsqueeze(-2)
    return modes_of_operator(reduction, (shrinkage * cross) @ leading @ leading.mH * inverse)
