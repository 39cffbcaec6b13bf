"""The shape of a latent trajectory: how many directions it fills, how that grows, how it turns, how far a set spreads.

Measures that other work on hidden states uses, to stand beside the dispersion. They look at where the states are, not
at the operator that moves them: permuting the tokens changes none of them but the curvature and the rank's growth.

All take states (..., T, H) of any floating or complex dtype, or a list of (T_i, H) as a batch, with an optional mask
(..., T), true at valid tokens; what stands at masked positions is ignored, NaN included. All are computed in float64,
from the Gram matrix of the short side, and are differentiable in the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_channels, as_tensor, batch_of, in_its_unit

__all__ = [
    "EffectiveRankGrowth",
    "effective_rank",
    "effective_rank_growth",
    "log_det_diversity",
    "log_det_gains",
    "stable_rank",
    "trajectory_curvature",
]


def effective_rank(states: Tensor | Sequence[Tensor], mask: Tensor | None = None, *, center: bool = True) -> Tensor:
    """exp of the entropy of the normalised singular values, (...) float64 in [1, min(T - 1, H)].

    ``ER = exp(-sum_j p_j log p_j)``, ``p_j = s_j / sum_k s_k``, s the singular values, not their squares (Roy and
    Vetterli, EUSIPCO 2007; as used by VERL, arXiv 2509.23808, which centres over the tokens). Singular values below
    the square root of the rounding unit, relative to the largest, are rounding of the Gram matrix and count as zero.

    Args:
        states: (..., T, H).
        mask: (..., T) bool; None takes all tokens.
        center: take off the mean over the valid tokens first.

    Returns:
        Effective rank; 0, without gradient, where no state differs from the mean (fewer than two tokens, for example).

    Raises:
        DataError: shapes or dtypes that do not fit, or a NaN or Inf at a valid token.
    """
    states, mask = _padded(states, mask)
    return _effective_rank(_valid_states(states, mask, center=center))


def stable_rank(states: Tensor | Sequence[Tensor], mask: Tensor | None = None, *, center: bool = False) -> Tensor:
    """Squared Frobenius norm over squared spectral norm, (...) float64 in [1, min(T, H)]; 0 where all states are zero.

    The reward of SR-GRPO (arXiv 2512.02807), there of the final layer's states as they are, hence not centred.
    Arguments and errors as in :func:`effective_rank`.
    """
    states, mask = _padded(states, mask)
    values = _gram_eigenvalues(_valid_states(states, mask, center=center))
    largest = values[..., -1]
    # Twice `where`: a division by zero in the branch not taken would still make the gradient NaN.
    return torch.where(largest > 0, values.sum(-1) / torch.where(largest > 0, largest, 1.0), 0.0)


@dataclass(frozen=True)
class EffectiveRankGrowth:
    """How the effective rank of a trajectory's beginnings grows (VERL); all float64 of batch shape (...)."""

    rank: Tensor
    """Effective rank of the whole trajectory."""
    velocity: Tensor
    """Mean of d_j = m_j - mean of the m before it, m_j the effective rank of the j-th beginning; 0 if undefined."""
    acceleration: Tensor
    """Mean of d_j - d_(j-1); 0 if undefined."""
    num_prefixes: Tensor
    """K, int64: beginnings measured; the velocity needs 2, the acceleration 3."""


def effective_rank_growth(
    states: Tensor | Sequence[Tensor], mask: Tensor | None = None, *, stride: int = 40, max_tokens: int | None = 512
) -> EffectiveRankGrowth:
    """Effective rank, its velocity and its acceleration along a trajectory, as VERL defines them (arXiv 2509.23808).

    ``m_j = ER(Z[0 : j s + 1])`` for j = 1..K, as many as fit; ``d_j = m_j - mean_{k < j} m_k``;
    ``ERV = mean_{j >= 2} d_j``; ``ERA = mean_{j >= 3} (d_j - d_{j-1})``. Each beginning is centred by its own mean.

    Args:
        states: (..., T, H).
        mask: (..., T) bool; a trajectory is its valid tokens in order, holes closed up.
        stride: s, tokens from one beginning to the next.
        max_tokens: velocity and acceleration look at the last `max_tokens` tokens only, as the released code does;
            None looks at all. The rank always takes all.

    Raises:
        ConfigError: a stride below 1, or fewer than 2 tokens to look at.
        DataError: as :func:`effective_rank`.
    """
    states, mask = _padded(states, mask)
    if stride < 1:
        raise ConfigError(f"stride must be at least 1 token, got {stride}.")
    if max_tokens is not None and max_tokens < 2:
        raise ConfigError(f"max_tokens must be at least 2, got {max_tokens}; use None to look at all tokens.")
    tokens, lengths = _packed(_valid_states(states, mask), mask)
    batch, width = tokens.shape[:-2], tokens.shape[-1]
    flat, lengths = tokens.reshape(batch.numel(), *tokens.shape[-2:]), lengths.reshape(-1)
    ranks = effective_rank(states, mask)
    if max_tokens is not None:
        # Counted from each trajectory's own end: its last valid tokens, wherever its padding begins.
        starts = (lengths - max_tokens).clamp_min(0)
        steps = starts.unsqueeze(-1) + torch.arange(min(max_tokens, flat.shape[1]), device=flat.device)
        flat = flat.gather(1, steps.clamp_max(flat.shape[1] - 1).unsqueeze(-1).expand(-1, -1, width))
        lengths = lengths.clamp_max(max_tokens)
    num_prefixes = (lengths - 1).clamp_min(0) // stride
    total = velocity = acceleration = previous = flat.new_zeros(len(flat), dtype=torch.float64)
    for j in range(1, int(num_prefixes.max()) + 1 if len(flat) else 1):
        rows = (num_prefixes >= j).nonzero().squeeze(-1)
        measured = _effective_rank(_centered(flat[rows, : j * stride + 1]))
        if j >= 2:
            difference = measured - total[rows] / (j - 1)
            velocity = velocity.index_add(0, rows, difference)
            if j >= 3:
                acceleration = acceleration.index_add(0, rows, difference - previous[rows])
            previous = previous.index_put((rows,), difference)
        total = total.index_add(0, rows, measured)
    return EffectiveRankGrowth(
        rank=ranks,
        velocity=(velocity / (num_prefixes - 1).clamp_min(1)).reshape(batch),
        acceleration=(acceleration / (num_prefixes - 2).clamp_min(1)).reshape(batch),
        num_prefixes=num_prefixes.reshape(batch),
    )


def trajectory_curvature(states: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Mean angle between successive steps of a trajectory, in radians, (...) float64 in [0, pi].

    ``mean_t arccos cos(h_{t+1} - h_t, h_{t+2} - h_{t+1})``, 0 on a straight line and pi where each step takes the last
    one back. Angles are measured by half-angle arctangents, exact and with a bounded gradient also near 0 and pi. A
    turn needs three neighbouring valid tokens, so none crosses a hole of the mask, and two steps of some length.
    Arguments and errors as in :func:`effective_rank`; 0, without gradient, where there is no turn.
    """
    states, mask = _padded(states, mask)
    tokens = as_channels(_valid_states(states, mask))
    steps = tokens.diff(dim=-2)
    lengths = torch.linalg.vector_norm(steps, dim=-1, keepdim=True)
    moved = lengths > 0
    directions = torch.where(moved, steps / torch.where(moved, lengths, 1.0), 0.0)
    before, after = directions[..., :-1, :], directions[..., 1:, :]
    is_turn = (moved[..., :-1, :] & moved[..., 1:, :]).squeeze(-1)
    if mask is not None:
        is_turn = is_turn & mask[..., :-2] & mask[..., 1:-1] & mask[..., 2:]
    apart = torch.linalg.vector_norm(after - before, dim=-1)
    along = torch.linalg.vector_norm(after + before, dim=-1)
    # The gradient of arctan2 at the origin is not finite; both lengths vanish only where there is no turn.
    angles = 2.0 * torch.atan2(torch.where(is_turn, apart, 0.0), torch.where(is_turn, along, 1.0))
    return torch.where(is_turn, angles, 0.0).sum(-1) / is_turn.sum(-1).clamp_min(1)


def log_det_diversity(vectors: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, unit: bool = True) -> Tensor:
    """log det(I + scale V V^T) of a set of vectors, (...) float64: 0 for none, largest when they are orthogonal.

    The diversity of DQO (arXiv 2509.04784), there of one embedding per completion of a group.

    Args:
        vectors: (..., N, H).
        mask: (..., N) bool, which vectors belong to the set.
        scale: weight of the Gram matrix against the identity.
        unit: take every vector at length one (zero vectors stay zero), so that N vectors have a diversity of
            log(1 + N scale) when they coincide and N log(1 + scale) when they are orthogonal.

    Raises:
        ConfigError: a scale that is not positive.
        DataError: as :func:`effective_rank`.
    """
    factor = _shifted_factor(vectors, mask, scale, unit)
    return 2.0 * factor.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)


def log_det_gains(vectors: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, unit: bool = True) -> Tensor:
    """Contribution of each vector to :func:`log_det_diversity` of the set, (..., N) float64; 0 for masked ones.

    ``log det(I + L) - log det(I + L without i) = -log [(I + L)^-1]_ii`` for L = scale V V^T: the share of each
    completion in DQO's surrogate, in [0, log(1 + scale)] for unit vectors. Arguments and errors as there.
    """
    factor = _shifted_factor(vectors, mask, scale, unit)
    gains = -torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1).real.log()
    return gains if mask is None else torch.where(mask, gains, 0.0)


def _padded(states: Tensor | Sequence[Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A list of trajectories as a padded batch; tensors and arrays as they are."""
    if isinstance(states, list | tuple) and mask is None:
        return batch_of(states, None, "States")
    return as_tensor(states, "States"), mask


def _valid_states(states: Tensor, mask: Tensor | None, *, center: bool = False, is_scale_free: bool = True) -> Tensor:
    """States (..., T, H) float64, zero at masked tokens, and, if asked, less the mean of the valid ones.

    Each trajectory in a unit that its squares fit in, where the measure `is_scale_free`.
    """
    states = as_tensor(states, "States")
    if states.ndim < 2 or not (states.is_floating_point() or states.is_complex()):
        raise DataError(f"States must be a floating or complex (..., T, H), got {tuple(states.shape)} {states.dtype}.")
    mask = None if mask is None else as_tensor(mask, "The mask")
    if mask is not None and (mask.shape != states.shape[:-1] or mask.dtype != torch.bool):
        raise DataError(
            f"The mask must be a bool {tuple(states.shape[:-1])}, got {tuple(mask.shape)} {mask.dtype}; "
            "it says which of the T tokens are valid."
        )
    tokens = states if mask is None else torch.where(mask.unsqueeze(-1), states, torch.zeros((), dtype=states.dtype))
    tokens = tokens.to(torch.complex128 if states.is_complex() else torch.float64)
    if not torch.isfinite(tokens.detach()).all():
        raise DataError("A valid token holds NaN or Inf; mask that trajectory out first.")
    if states.dtype in (torch.float64, torch.complex128) and is_scale_free:
        tokens, _ = in_its_unit(tokens, (-2, -1))
    return _centered(tokens, mask) if center else tokens


def _centered(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Valid tokens less their mean, masked ones zero; all zero if nothing but the rounding of equal tokens is left."""
    count = tokens.shape[-2] if mask is None else mask.sum(-1).clamp_min(1)[..., None, None]
    deviations = tokens - tokens.sum(-2, keepdim=True) / count
    if mask is not None:
        deviations = torch.where(mask.unsqueeze(-1), deviations, 0.0)
    size, spread = (torch.linalg.matrix_norm(x.detach(), keepdim=True) for x in (tokens, deviations))
    return torch.where(spread > tokens.shape[-2] * torch.finfo(tokens.dtype).eps * size, deviations, 0.0)


def _packed(tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The valid tokens of each trajectory moved to its beginning, in order, and how many there are, (...)."""
    if mask is None:
        return tokens, torch.full(tokens.shape[:-2], tokens.shape[-2], device=tokens.device)
    # Stable, or the tokens of a trajectory would change their order.
    order = torch.argsort(~mask, dim=-1, stable=True)
    return tokens.gather(-2, order.unsqueeze(-1).expand_as(tokens)), mask.sum(-1)


def _gram_eigenvalues(tokens: Tensor) -> Tensor:
    """Ascending squared singular values of (..., T, H), (..., min(T, H)); what is rounding of the largest is zero."""
    gram = tokens @ tokens.mH if tokens.shape[-2] <= tokens.shape[-1] else tokens.mH @ tokens
    if gram.shape[-1] == 0:
        return gram.new_zeros((*gram.shape[:-2], 1), dtype=torch.float64)
    # Values alone: their gradient stays finite where eigenvalues repeat, which that of eigenvectors does not.
    values = torch.linalg.eigvalsh(gram)
    cutoff = gram.shape[-1] * torch.finfo(gram.dtype).eps * values.detach()[..., -1:]
    return torch.where(values > cutoff.clamp_min(0), values, 0.0)


def _effective_rank(tokens: Tensor) -> Tensor:
    values = _gram_eigenvalues(tokens)
    kept = values > 0
    # The slope of a root at zero is infinite, and infinity times the zero of the outer `where` is NaN: so 1 inside.
    singular_values = torch.where(kept, torch.where(kept, values, 1.0).sqrt(), 0.0)
    total = singular_values.sum(-1, keepdim=True)
    # 1 and not 0 where nothing is kept: 1 log 1 adds nothing, and has a gradient.
    shares = torch.where(kept, singular_values / torch.where(total > 0, total, 1.0), 1.0)
    entropy = -(shares * shares.log()).sum(-1)
    return torch.where(kept.any(-1), entropy.exp(), 0.0)


def _shifted_factor(vectors: Tensor, mask: Tensor | None, scale: float, unit: bool) -> Tensor:
    """Cholesky factor of I + scale V V^T, (..., N, N)."""
    if not scale > 0:
        raise ConfigError(f"scale must be positive, got {scale}.")
    members = _valid_states(vectors, mask, is_scale_free=unit)
    if unit:
        lengths = torch.linalg.vector_norm(members, dim=-1, keepdim=True)
        members = members / torch.where(lengths > 0, lengths, 1.0)
    identity = torch.eye(members.shape[-2], dtype=members.dtype, device=members.device)
    factor, info = torch.linalg.cholesky_ex(identity + scale * members @ members.mH)
    # Beside squares above 1e16 the identity is rounding, and the matrix is not positive definite any more.
    if bool((info != 0).any()) or not bool(torch.isfinite(factor.detach()).all()):
        raise DataError("The vectors are too large for I + V V^T in double precision; scale them, or set unit=True.")
    return factor
