"""The "instrumental" dispersion: moduli that neither noise of measurement nor noise of the process biases."""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.koopman.dispersion.moduli import median_of, variance_of
from relax_rl.koopman.dispersion.result import Diagnostics, Dispersion
from relax_rl.koopman.linalg.eigensolvers import eigh
from relax_rl.koopman.operators.instruments import INSTRUMENTS, instrumental_operator
from relax_rl.koopman.pairs.lags import LaggedStatistics, lagged_statistics
from relax_rl.koopman.pairs.snapshots import paired_snapshots
from relax_rl.koopman.spectra.eigenpairs import SPURIOUS_RESIDUAL, eigenvalue_moduli

__all__ = ["LEAST_WINDOWS", "instrumental_dispersion"]

LEAST_WINDOWS = 32
"""Windows of INSTRUMENTS + 2 snapshots that a trajectory needs: the shortest of "robust" has as many pairs."""

_RANK = 8
_WINDOW = INSTRUMENTS + 2
# Directions that carry less than this share of the leading direction's variance are not dynamics: rounding, mostly.
_NEGLIGIBLE_VARIANCE = 1e-6


def instrumental_dispersion(lifted: Tensor, pairs: Tensor, num_nonfinite: Tensor) -> Dispersion:
    """Variance of the moduli of K by instruments, on the directions that the past predicts.

    The 8 leading directions of the variance are taken, centred; of these, the combinations whose part predicted by the
    past stands out of what pure noise of this length would show; on them K is fitted by instrumental variables
    (:func:`~relax_rl.koopman.operators.instruments.instrumental_operator`). Moduli above 1, which no stationary
    trajectory has, count as 1, so that 0 <= DSD <= 1/4. Where fewer than two directions stand out, the dispersion is
    undefined: short trajectories tell nothing about dynamics that are driven by noise and seen with noise
    (docs/research/robust-dispersion.md has the lengths). The gradient holds the directions fixed.

    Args:
        lifted: (B, T, F), finite.
        pairs: (B, T-1) bool.
        num_nonfinite: trajectories that were left out.
    """
    num_pairs, num_observables = pairs.sum(-1), lifted.shape[-1]
    used = paired_snapshots(pairs).unsqueeze(-1)
    states = torch.where(used, lifted.double(), 0.0)
    mean = states.sum(-2, keepdim=True) / used.sum(-2, keepdim=True).clamp_min(1)
    states = torch.where(used, states - mean, 0.0)
    with torch.no_grad():
        whitening = _leading_directions(states.detach(), min(_RANK, num_observables))
        lagged = lagged_statistics(states.detach() @ whitening, pairs, _WINDOW)
        directions = whitening @ _predicted_directions(lagged)
    is_defined = (lagged.num_windows >= LEAST_WINDOWS) & (num_pairs > num_observables)
    fit = instrumental_operator(lagged_statistics(states @ directions, pairs, _WINDOW))
    is_defined &= fit.rank >= 2
    matrix = torch.where(is_defined[:, None, None], fit.matrix, 0.0)
    spectrum = eigenvalue_moduli(matrix)
    size = matrix.shape[-1]
    moduli, _ = spectrum.values.clamp_max(1.0).sort(-1, descending=True)
    # Directions left out are eigenvalues of zero, so that they stand last.
    is_kept = torch.arange(size, device=moduli.device) < fit.rank.unsqueeze(-1)
    raw = spectrum.values.detach()

    def residuals() -> tuple[Tensor, Tensor]:
        found = torch.where(is_kept, (1.0 - moduli.detach().square()).clamp_min(0.0).sqrt(), torch.nan)
        share = torch.where(is_kept, (found > SPURIOUS_RESIDUAL).double(), torch.nan).nanmean(-1)
        return torch.where(is_defined, median_of(found), torch.nan), torch.where(is_defined, share, torch.nan)

    return Dispersion(
        values=torch.where(is_defined, variance_of(moduli, is_kept), 0.0),
        is_defined=is_defined,
        num_pairs=num_pairs,
        num_clamped=spectrum.num_clamped,
        num_nonfinite=num_nonfinite,
        diagnostics=Diagnostics(
            radius=lambda: torch.where(is_defined, raw.amax(-1), 0.0),
            condition=lambda: torch.where(is_defined & (fit.rank > 0), fit.condition, 0.0),
            residuals=residuals,
        ),
    )


def _leading_directions(states: Tensor, rank: int) -> Tensor:
    """Directions (B, F, R) in which the centred states have unit mean square; zero where next to nothing varies."""
    count = (states != 0).any(-1).sum(-1).clamp_min(1)
    values, vectors = eigh(states.mT @ states / count[:, None, None])
    values, vectors = values[..., -rank:], vectors[..., -rank:]
    largest = values[..., -1:]
    kept = (values > _NEGLIGIBLE_VARIANCE * largest) & (largest > 0)
    return vectors * torch.where(kept, torch.where(kept, values, 1.0).rsqrt(), 0.0).unsqueeze(-2)


def _predicted_directions(lagged: LaggedStatistics) -> Tensor:
    """Orthonormal combinations (B, R, R) of whitened directions that the past predicts; zero columns for the others.

    Of white noise, the squared canonical correlations between a present of R directions and a past of q R fill an
    interval up to ((sqrt(R) + sqrt(q R)) / sqrt(N))^2 for N windows, to first order in R / N (Wachter 1980).
    """
    past, present = range(INSTRUMENTS), [INSTRUMENTS]
    gram, cross = lagged.between(past, past), lagged.between(past, present)
    now = lagged.between(present, present)
    explained = cross.mT @ torch.linalg.pinv(gram, hermitian=True) @ cross
    # Whitened by the whole trajectory, not by the windows: their own Gram matrix is the identity to end effects only.
    values, vectors = eigh(now / lagged.num_windows.clamp_min(1)[:, None, None])
    kept = values > 0.01
    root = vectors * torch.where(kept, torch.where(kept, values, 1.0).rsqrt(), 0.0).unsqueeze(-2)
    share, combinations = eigh(root.mT @ explained @ root / lagged.num_windows.clamp_min(1)[:, None, None])
    rank = kept.sum(-1)
    edge = ((rank.sqrt() + (INSTRUMENTS * rank).sqrt()) / lagged.num_windows.clamp_min(1).sqrt()).square()
    stands_out = share > edge.unsqueeze(-1)
    return (root @ combinations) * stands_out.unsqueeze(-2)
