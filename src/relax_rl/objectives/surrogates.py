"""The policy-gradient term of each token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch

__all__ = ["CappedWeightSurrogate", "ClippedSurrogate", "SequenceRatioSurrogate", "clip_metrics", "of_each_token"]


def of_each_token(advantages: Tensor) -> Tensor:
    """Advantages (P, G) as (P, G, 1), those of each token (P, G, T) as they are."""
    return advantages.unsqueeze(-1) if advantages.dim() == 2 else advantages


def clip_metrics(is_low: Tensor, is_high: Tensor, batch: RolloutBatch) -> dict[str, Tensor]:
    """Shares of tokens that lie below the lower bound, above the upper one, and either; (P, G, T) bool each."""
    num_tokens = batch.mask.sum().clamp(min=1)
    return {
        "clip_ratio/low_mean": (is_low & batch.mask).sum() / num_tokens,
        "clip_ratio/high_mean": (is_high & batch.mask).sum() / num_tokens,
        "clip_ratio/region_mean": ((is_low | is_high) & batch.mask).sum() / num_tokens,
    }


def _clipped(
    ratio: Tensor, advantage: Tensor, low: float, high: float, batch: RolloutBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    clipped = ratio.clamp(1 - low, 1 + high)
    loss = -torch.minimum(ratio * advantage, clipped * advantage)
    is_low = (ratio < 1 - low) & (advantage < 0)
    is_high = (ratio > 1 + high) & (advantage > 0)
    return loss, clip_metrics(is_low, is_high, batch)


@dataclass(frozen=True)
class ClippedSurrogate:
    """PPO's clipped ratio: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(log_probs - old_log_probs).

    Source: arXiv 1707.06347, Eq. 7; ReLaX Eq. 3. ``clip_high > clip_low`` is DAPO's clip-higher (arXiv 2503.14476).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        ratio = torch.exp(batch.log_ratio)
        return _clipped(ratio, of_each_token(advantages), self.clip_low, self.clip_high, batch)


@dataclass(frozen=True)
class SequenceRatioSurrogate:
    """GSPO: PPO's clip on the ratio of the whole completion (arXiv 2507.18071, GSPO-token form).

    s_i = exp(mean_t (log_probs - old_log_probs)), and for each token s_it = sg[s_i] exp(log_probs - sg[log_probs]),
    which has the value of s_i and hands each token its gradient; sg stops the gradient. verl also caps log s_it at 10;
    we do not. On the first update after a rollout, where every ratio is 1, it is GRPO.

    Attributes:
        clip_low, clip_high: 3e-4 and 4e-4 (the paper's section 5.1, as TRL's paper index quotes it).
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        log_ratio = batch.log_ratio.detach()
        mean = log_ratio.sum(-1, keepdim=True) / batch.lengths.unsqueeze(-1).clamp(min=1)
        # Masked before the exponential, whose gradient would be NaN where a log-probability behind the mask is.
        own = (batch.log_probs - batch.log_probs.detach()).masked_fill(~batch.mask, 0.0)
        ratio = torch.exp(mean + own)
        return _clipped(ratio, of_each_token(advantages), self.clip_low, self.clip_high, batch)


@dataclass(frozen=True)
class CappedWeightSurrogate:
    """CISPO: -sg[clamp(r, ratio_min, ratio_max)] A log_probs (arXiv 2506.13585); sg stops the gradient.

    The cap bounds a token's weight and, unlike PPO's clip, never takes its gradient away.

    Attributes:
        ratio_min, ratio_max: absolute bounds on the ratio, TRL's parameterisation: no lower bound, 5.0 as recommended
            there. verl means 1 - clip_low and 1 + clip_high by the same method: to run verl's, give those two numbers.
    """

    ratio_min: float = 0.0
    ratio_max: float = 5.0

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of capped weights."""
        ratio = torch.exp(batch.log_ratio.detach())
        loss = -ratio.clamp(self.ratio_min, self.ratio_max) * of_each_token(advantages) * batch.log_probs
        return loss, clip_metrics(ratio < self.ratio_min, ratio > self.ratio_max, batch)
