"""Operators from snapshots further apart: right for states that are driven by noise and measured with noise.

z_{t+1} = z_t K + w_t, of which z_t + e_t is seen. Least squares takes the noise e of measurement for decay; forward-
backward and total least squares take the noise w of the process for growth, since they ascribe it to measurement. Both
noises are independent of the snapshots before: sums between those and the pair (z_t, z_{t+1}) hold neither.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import all_finite
from relax_rl.koopman.linalg.eigensolvers import eigh
from relax_rl.koopman.operators.fits import OperatorFit, least_squares_operator
from relax_rl.koopman.pairs.lags import LaggedStatistics
from relax_rl.koopman.pairs.snapshots import GramStatistics

__all__ = [
    "INSTRUMENTS",
    "SUBSPACE_WINDOW",
    "instrumental_operator",
    "operator_on",
    "predicted_directions",
    "subspace_operator",
]

INSTRUMENTS = 2
"""Snapshots before each pair that serve as its instruments. One is enough for consistency; the second lowers the
variance (docs/guides/toolkit.md, "Which estimator for which noise")."""

SUBSPACE_WINDOW = 4
"""Two past snapshots and two future ones."""


def instrumental_operator(statistics: LaggedStatistics, *, rcond: float | None = None) -> OperatorFit:
    """K by instrumental variables: two-stage least squares with the snapshots before each pair as its instruments.

    With P (N, q F) the past, X and Y the pair: X^ = P P^+ X is the part of X that the past predicts, and
    K = (X^* X)^+ X^* Y. Noise that is independent between snapshots is in none of these sums but P* P, which only
    weighs the instruments (Söderström and Stoica 2002, "Instrumental variable methods for system identification").

    Args:
        statistics: batch shape (...), windows of q + 2 snapshots, q >= 1.
        rcond: relative cut-off on the eigenvalues of X^* X^; None is F times the float64 rounding unit.

    Returns:
        The fit, differentiable in the statistics. Its condition is that of X^: large where the past hardly predicts
        some direction, which then has no reliable eigenvalue; keep fewer directions.

    Raises:
        ConfigError: windows of fewer than 3 snapshots.
        DataError: NaN or Inf in the statistics.
    """
    _require_finite(statistics)
    if statistics.window < 3:
        raise ConfigError(f"Instruments need windows of at least 3 snapshots, got {statistics.window}.")
    past, present, future = range(statistics.window - 2), statistics.window - 2, statistics.window - 1
    gram = statistics.between(past, past)
    # Of the past on the present: the coefficients of the first stage, by the same rule of left-out directions.
    sums = GramStatistics(gram, statistics.between(past, [present]), gram, statistics.num_windows)
    first_stage = least_squares_operator(sums, rcond=rcond).matrix
    explained = first_stage.mH @ statistics.between(past, [present])
    advanced = first_stage.mH @ statistics.between(past, [future])
    explained = 0.5 * (explained + explained.mH)
    return least_squares_operator(GramStatistics(explained, advanced, explained, statistics.num_windows), rcond=rcond)


def subspace_operator(statistics: LaggedStatistics, rank: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """Stochastic subspace identification: the operator on the directions of the future that the past predicts.

    Takeishi, Kawahara and Yairi 2017, "Subspace dynamic mode decomposition for stochastic Koopman analysis" (Phys. Rev.
    E 96, 033310), on Gram statistics: the future (z_{t+2}, z_{t+3}) is projected onto the past (z_t, z_{t+1}); of the
    projection's leading right singular vectors, (U1; U2), z_{t+2} ~ s U1* and z_{t+3} ~ s U2*, and s advances by
    U2* pinv(U1*). The statistics must be of observables in an orthonormal basis: their units decide which directions
    lead.

    Args:
        statistics: batch shape (...), windows of 4 snapshots.
        rank: R, directions to keep, for all.

    Returns:
        The operator A (..., R, R) with s_{t+1} = s_t A; the directions U1* (..., R, F), in which z_t ~ s_t U1*; and the
        singular values (..., 2 F) of the projection, descending, from which a rank may be chosen. Without gradient.

    Raises:
        ConfigError: windows of another size.
        DataError: NaN or Inf in the statistics.
    """
    values, vectors = predicted_directions(statistics)
    matrix, first, _ = operator_on(vectors, int(rank))
    return matrix, first, values


@torch.no_grad()
def predicted_directions(statistics: LaggedStatistics) -> tuple[Tensor, Tensor]:
    """Singular values (..., 2 F) of the future projected onto the past, descending, and directions (..., 2 F, 2 F), a
    column each. Arguments and errors as in :func:`subspace_operator`."""
    _require_finite(statistics)
    if statistics.window != SUBSPACE_WINDOW:
        raise ConfigError(f"Subspace DMD needs windows of {SUBSPACE_WINDOW} snapshots, got {statistics.window}.")
    gram, cross = statistics.between([0, 1], [0, 1]), statistics.between([0, 1], [2, 3])
    sums = GramStatistics(gram, cross, gram, statistics.num_windows)
    projected = cross.mH @ least_squares_operator(sums).matrix
    values, vectors = eigh(0.5 * (projected + projected.mH))
    return values.flip(-1).clamp_min(0.0).sqrt(), vectors.flip(-1)


@torch.no_grad()
def operator_on(directions: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The operator A (..., R, R) on the `rank` leading directions, U1* (..., R, F), and its pseudo-inverse."""
    first, second = directions[..., :rank].mH.tensor_split(2, dim=-1)
    back = torch.linalg.pinv(first)
    return second @ back, first, back


def _require_finite(statistics: LaggedStatistics) -> None:
    if not all_finite(statistics.blocks.detach()):
        raise DataError(
            "The lagged statistics hold NaN or Inf, or squares too large for them; leave that trajectory out, or scale "
            "the snapshots."
        )
