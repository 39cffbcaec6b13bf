"""Subspace DMD: the spectrum of dynamics that are randomly driven and measured with noise.

The directions are those of the future that the past predicts, not those of largest variance: noise, however large,
predicts nothing (Takeishi, Kawahara and Yairi 2017, Phys. Rev. E 96, 033310).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.linalg.directions import row_space
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.linalg.ranks import Rank, check_rank, select_rank
from relax_rl.koopman.operators.instruments import SUBSPACE_WINDOW, operator_on, predicted_directions
from relax_rl.koopman.operators.reduction import clean_snapshots, masked_pairs
from relax_rl.koopman.pairs.lags import lagged_statistics
from relax_rl.koopman.pairs.snapshots import joined_snapshots, paired_snapshots
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
    snapshots, unit = in_its_unit(clean_snapshots(snapshots, paired_snapshots(pairs)))
    x, y = masked_pairs(snapshots, pairs)
    scales, basis = row_space(x)
    size = len(scales)
    if size == 0:
        raise DataError("No direction of the snapshots is left to fit dynamics in: they are all zero.")
    # Only the number of directions depends on the units: in an orthonormal basis those of the observables stay.
    coordinates = snapshots if basis is None else snapshots @ basis
    lagged = lagged_statistics(coordinates, pairs, SUBSPACE_WINDOW)
    if not bool(lagged.num_windows > 0):
        raise DataError(f"Subspace DMD needs {SUBSPACE_WINDOW} snapshots in a row, and no trajectory has them.")
    predicted, vectors = predicted_directions(lagged)
    floor = size * torch.finfo(torch.float64).eps
    chosen = int(select_rank(predicted[:size], rank, lagged.num_windows, size, floor**0.5))
    if chosen == 0:
        raise DataError("The past predicts nothing of the future in these snapshots; there is no operator to fit.")
    matrix, directions, back = operator_on(vectors, chosen)
    values, inner = (result.to(matrix.device) for result in eig(matrix))
    order = values.abs().argsort(descending=True, stable=True)
    values, inner = values[order], inner[:, order]
    # Of s_{t+1} = s_t A and z_t ~ s_t U1* V*, so that s_t = z_t V pinv(U1*).
    if basis is not None:
        back, directions = basis @ back, directions @ basis.mH
    eigenvectors = back.to(inner.dtype) @ inner
    modes = torch.linalg.pinv(inner) @ directions.to(inner.dtype)
    return DynamicModes(
        eigenvalues=values,
        eigenvectors=eigenvectors / unit,
        modes=modes * unit,
        residuals=primal_residuals(x, y, values, eigenvectors),
        singular_values=predicted[:chosen] * unit,
        condition=scales[0] / scales[-1],
        rank=torch.tensor(chosen),
        num_pairs=pairs.sum(),
    )
