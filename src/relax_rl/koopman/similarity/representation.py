"""Classical similarity of two sets of states, row by row: CKA, CCA, Procrustes and RSA.

They compare where states are, token by token, and know nothing of the order of the tokens: shuffle both alike and they
stay the same. They stand beside the dynamical measures as what those must beat. All take two batches of states,
(..., T, H) and (..., T, H'), of the same T tokens (complex ones
count as their real and imaginary parts), are centred over them, invariant to rotations and to a common
scale, and give a similarity (...) float64 of at most 1 that is 1 for equal states. `1 - s` is a dissimilarity; arccos s
is a metric for CKA and Procrustes (Williams, Kunz, Kornblith and Linderman, NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_channels, as_tensor, in_its_unit, trajectory_list

__all__ = [
    "PatternDistance",
    "canonical_correlation",
    "linear_cka",
    "procrustes_similarity",
    "representational_similarity",
]

PatternDistance = Literal["euclidean", "correlation"]
"""Between the states of two tokens: the length of their difference; or 1 less their correlation over the channels,
which is not invariant to rotations."""


def linear_cka(x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor], *, debiased: bool = False) -> Tensor:
    """Centred kernel alignment with linear kernels, in [0, 1] (Kornblith, Norouzi, Lee and Hinton, ICML 2019).

    ``||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F)``.

    Args:
        x, y: states of the same tokens.
        debiased: with the unbiased estimator of HSIC (Song et al. 2012), which is 0 on average for independent states
            and may be negative. The plain one is near 1 for any two sets of states with many more channels than tokens.

    Raises:
        DataError: states of different tokens, constant ones, NaN or Inf, or fewer than 4 tokens where debiased.
    """
    x, y = _centered(x, y)
    if not debiased:
        norms = [torch.linalg.matrix_norm(_product(a, a)) for a in (x, y)]
        return torch.linalg.matrix_norm(_product(x, y)).square() / (norms[0] * norms[1])
    if x.shape[-2] < 4:
        raise DataError(f"The debiased CKA needs at least 4 tokens, got {x.shape[-2]}.")
    kernels = [a @ a.mT for a in (x, y)]
    return (
        _unbiased_hsic(*kernels)
        / (_unbiased_hsic(kernels[0], kernels[0]) * _unbiased_hsic(kernels[1], kernels[1])).sqrt()
    )


def canonical_correlation(x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor], *, energy: float = 1.0) -> Tensor:
    """Mean canonical correlation, in [0, 1], over as many as the smaller of the two ranks.

    Args:
        x, y: states of the same tokens.
        energy: share of the variance whose leading directions are kept of each: below 1 it is SVCCA (Raghu, Gilmer,
            Yosinski and Sohl-Dickstein, NeurIPS 2017); 1 keeps all above rounding.

    Raises:
        DataError: as :func:`linear_cka`; or as many directions as tokens allow, where every correlation is 1.
        ConfigError: an energy outside (0, 1].
    """
    if not 0.0 < energy <= 1.0:
        raise ConfigError(f"energy must lie in (0, 1], got {energy}.")
    (first, ranks), (second, other_ranks) = (_scores(a, energy) for a in _centered(x, y))
    tokens = first.shape[-2]
    if int(torch.maximum(ranks, other_ranks).max()) >= tokens - 1:
        raise DataError(
            f"States of {tokens} tokens that fill {tokens - 1} directions correlate perfectly with anything; give more "
            "tokens, or keep fewer directions with energy below 1."
        )
    correlations = torch.linalg.svdvals(first.mT @ second).clamp_max(1.0)
    return correlations.sum(-1) / torch.minimum(ranks, other_ranks)


def procrustes_similarity(x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor]) -> Tensor:
    """Largest cosine between the states and any rotation of the others, in [0, 1]: ||X^T Y||_* / (||X||_F ||Y||_F).

    The Procrustes distance of states of norm one is sqrt(2 - 2 s). Arguments and errors as in :func:`linear_cka`.
    """
    x, y = (_compact(a) for a in _centered(x, y))
    nuclear = torch.linalg.svdvals(x.mT @ y).sum(-1)
    return (nuclear / (torch.linalg.matrix_norm(x) * torch.linalg.matrix_norm(y))).clamp_max(1.0)


def representational_similarity(
    x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor], *, distance: PatternDistance = "euclidean"
) -> Tensor:
    """Spearman correlation of the distances between tokens, in [-1, 1] (Kriegeskorte, Mur and Bandettini 2008).

    Args:
        x, y: states of the same T tokens, T >= 3; T (T - 1) / 2 distances of each are held.
        distance: see :data:`PatternDistance`.

    Raises:
        DataError: as :func:`linear_cka`; or distances that are all equal.
        ConfigError: an unknown distance.
    """
    if distance not in get_args(PatternDistance):
        raise ConfigError(f"Unknown distance {distance!r}; use one of {', '.join(get_args(PatternDistance))}.")
    ranks = [_ranks(_pattern_distances(a, distance)) for a in _centered(x, y)]
    first, second = (r - r.mean(-1, keepdim=True) for r in ranks)
    norms = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
    if not bool((norms > 0).all()):
        raise DataError("The distances between tokens are all equal, so there is no order of them to compare.")
    return (first * second).sum(-1) / norms


def _centered(x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Both in float64, less their means over the tokens."""
    x, y = _tokens(x), _tokens(y)
    for states in (x, y):
        if states.ndim < 2 or not states.is_floating_point():
            raise DataError(f"States must be a real floating (..., T, H), got {tuple(states.shape)} {states.dtype}.")
    if x.shape[-2] != y.shape[-2]:
        raise DataError(
            f"States must be of the same tokens to be compared one by one, got {x.shape[-2]} and {y.shape[-2]} tokens; "
            "a dynamical distance (KoopSTD, delay spectra) takes any two trajectories."
        )
    centered = []
    for states in (x, y):
        states, _ = in_its_unit(states.double(), (-2, -1))
        if not bool(torch.isfinite(states).all()):
            raise DataError("The states hold NaN or Inf; leave that trajectory out.")
        deviations = states - states.mean(-2, keepdim=True)
        # Relative to the states: equal ones leave rounding behind, which would correlate with anything.
        size, spread = torch.linalg.matrix_norm(states), torch.linalg.matrix_norm(deviations)
        if not bool((spread > states.shape[-2] * torch.finfo(states.dtype).eps * size).all()):
            raise DataError(
                "The states of a trajectory are all the same, and have no similarity to others; leave it out."
            )
        centered.append(deviations)
    return centered[0], centered[1]


def _tokens(states: Tensor | Sequence[Tensor]) -> Tensor:
    """States (..., T, H), those of a list of trajectories one after the other."""
    if isinstance(states, list | tuple):
        return as_channels(torch.cat(trajectory_list(states, "States")))
    return as_channels(as_tensor(states, "States"))


def _product(x: Tensor, y: Tensor) -> Tensor:
    """X^T Y, or where that is the larger matrix, one of the same Frobenius norm."""
    x, y = _compact(x), _compact(y)
    return x.mT @ y


def _compact(x: Tensor) -> Tensor:
    """States with more channels than tokens, in as many channels as tokens: the same inner products."""
    if x.shape[-1] <= x.shape[-2]:
        return x
    values, vectors = torch.linalg.eigh(x @ x.mT)
    return vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)


def _scores(x: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """Orthonormal coordinates (..., T, K) of the leading directions, zero for those left out, and how many are kept."""
    # Directions at rounding are left out: orthonormalised, they would count as much as the others.
    left, scales, _ = torch.linalg.svd(x, full_matrices=False)
    cutoff = max(x.shape[-2:]) * torch.finfo(x.dtype).eps
    variance = scales.square()
    before = variance.cumsum(-1) - variance
    kept = (scales > cutoff * scales[..., :1]) & (before < energy * variance.sum(-1, keepdim=True))
    return torch.where(kept.unsqueeze(-2), left, 0.0), kept.sum(-1)


def _unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Song, Smola, Gretton, Bedo and Borgwardt (JMLR 2012), Eq. 5."""
    n = k.shape[-1]
    k, l = (matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1)) for matrix in (k, l))  # noqa: E741
    trace = (k * l).sum((-1, -2))
    sums = k.sum((-1, -2)) * l.sum((-1, -2)) / ((n - 1) * (n - 2))
    mixed = 2.0 * (k.sum(-1) * l.sum(-1)).sum(-1) / (n - 2)
    return (trace + sums - mixed) / (n * (n - 3))


def _pattern_distances(x: Tensor, distance: PatternDistance) -> Tensor:
    """Distances between the tokens of (..., T, H): (..., T (T - 1) / 2)."""
    if distance == "correlation":
        x = x - x.mean(-1, keepdim=True)
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        x = x / torch.where(lengths > 0, lengths, 1.0)
        square = 1.0 - x @ x.mT
    else:
        # Not by expanding the square: near states would cancel to noise, and it is the order of small distances that
        # counts.
        square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    rows, columns = torch.triu_indices(x.shape[-2], x.shape[-2], offset=1, device=x.device)
    return square[..., rows, columns]


def _ranks(values: Tensor) -> Tensor:
    """Ranks over the last dimension, equal values sharing the mean of theirs."""
    # searchsorted copies and warns where its input is not contiguous.
    ordered = values.sort(-1).values.contiguous()
    values = values.contiguous()
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    return 0.5 * (below + up_to - 1).double()
