"""Subspace DMD: the spectrum of dynamics that are randomly driven and measured with noise.

The directions are those of the future that the past predicts, not those of largest variance: noise, however large,
predicts nothing (Takeishi, Kawahara and Yairi 2017, Phys. Rev. E 96, 033310).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.linalg.ranks import Rank, check_rank, select_rank
from relax_rl.koopman.operators.instruments import SUBSPACE_WINDOW, operator_on, predicted_directions
from relax_rl.koopman.operators.reduction import Reduction, reduce_snapshots
from relax_rl.koopman.pairs.lags import lagged_statistics
from relax_rl.koopman.pairs.snapshots import double_of, joined_snapshots
from relax_rl.koopman.spectra.dmd import DynamicModes
from relax_rl.koopman.spectra.residuals import primal_residuals

__all__ = ["subspace_dmd"]


def subspace_dmd(
    snapshots: Tensor | Sequence[Tensor], pairs: Tensor | None = None, *, rank: Rank = None
) -> DynamicModes:
    """Subspace DMD of one trajectory, or of several that share one operator; without gradient.

    Args:
        snapshots: (T, F) real or complex, any precision, or a list of (T_i, F).
        pairs: (T-1,) bool, which neighbours are snapshot pairs; None: all are, within each trajectory.
        rank: directions that the past predicts, of which the operator is fitted: a number, a share of the predicted
            energy, None (all above rounding; with noise in every direction that is all of them, and most are noise).

    Returns:
        The spectrum; its singular values are those of the predicted future.

    Raises:
        DataError: nothing to fit, NaN or Inf in a pair, or no four snapshots in a row.
        ConfigError: a rank that there is not; "optimal" has no meaning here.
    """
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    if snapshots.ndim != 2:
        raise DataError(
            f"Subspace DMD takes one set of snapshots (T, F), got {tuple(snapshots.shape)}; index the batch."
        )
    rank = check_rank(rank, snapshots.shape[-1])
    if rank == "optimal":
        raise ConfigError("rank='optimal' is a threshold for white noise in X; give subspace DMD a number or a share.")
    snapshots, unit = in_its_unit(snapshots.to(double_of(snapshots.dtype)))
    reduction = reduce_snapshots(snapshots, pairs)
    scales = reduction.scales
    states, links = reduction.sequence()
    lagged = lagged_statistics(states * scales, links, SUBSPACE_WINDOW)
    if not bool(lagged.num_windows > 0):
        raise DataError(f"Subspace DMD needs {SUBSPACE_WINDOW} snapshots in a row, and no trajectory has them.")
    size = scales.shape[-1]
    predicted, vectors = predicted_directions(lagged)
    floor = max(lagged.blocks.shape[-1], 1) * torch.finfo(torch.float64).eps
    chosen = int(select_rank(predicted[..., :size], rank, lagged.num_windows, size, floor**0.5))
    if chosen == 0:
        raise DataError("The past predicts nothing of the future in these snapshots; there is no operator to fit.")
    modes = _modes(*operator_on(vectors, chosen), predicted[:chosen], reduction)
    return replace(
        modes,
        eigenvectors=modes.eigenvectors / unit,
        modes=modes.modes * unit,
        singular_values=modes.singular_values * unit,
    )


def _modes(matrix: Tensor, directions: Tensor, back: Tensor, predicted: Tensor, reduction: Reduction) -> DynamicModes:
    """Eigenfunctions and modes over the observables, of s_{t+1} = s_t A and z_t S = s_t U1*."""
    values, vectors = (result.to(matrix.device) for result in eig(matrix))
    order = values.abs().argsort(descending=True, stable=True)
    values, vectors = values[order], vectors[:, order]
    scales = reduction.scales.unsqueeze(-1)
    # Whitened snapshots times S are the orthonormal coordinates; s = (z S) pinv(U1*).
    whitened = (scales * back).to(vectors.dtype) @ vectors
    latent = torch.linalg.pinv(vectors) @ (directions / scales.mT).to(vectors.dtype)
    assert reduction.first is not None
    assert reduction.second is not None
    return DynamicModes(
        eigenvalues=values,
        eigenvectors=reduction.coefficients.to(vectors.dtype) @ whitened,
        modes=latent @ reduction.present.to(vectors.dtype),
        residuals=primal_residuals(reduction.first, reduction.second, values, whitened),
        singular_values=predicted,
        condition=reduction.condition,
        rank=torch.tensor(len(values)),
        num_pairs=reduction.num_pairs,
    )
