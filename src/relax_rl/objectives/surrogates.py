"""The clipped policy-gradient term of each token, and the pieces that other surrogates share with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch

__all__ = [
    "ClippedSurrogate",
    "RatioSurrogate",
    "SequenceRatioSurrogate",
    "clip_metrics",
    "dual_clip",
    "of_each_token",
    "unit_ratio",
]


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


def dual_clip(loss: Tensor, advantage: Tensor, bound: float) -> Tensor:
    """min(loss, -bound A) where A < 0: a huge ratio on a bad token no longer counts (arXiv 1912.09729)."""
    return torch.where(advantage < 0, torch.minimum(loss, -bound * advantage), loss)


def unit_ratio(batch: RolloutBatch) -> Tensor:
    """(P, G, T) r / sg[r]: 1, with the gradient 1 for the token's log-probability. Masked before the exponential."""
    # Masked inside the exponential: its gradient is NaN where a log-probability behind the mask is.
    return torch.exp((batch.log_probs - batch.log_probs.detach()).masked_fill(~batch.mask, 0.0))


@dataclass(frozen=True)
class RatioSurrogate(Surrogate):
    """A surrogate that bounds a ratio; a subclass says which ratio.

        -min(min(r, delta) A, clip(r, 1 - clip_low, 1 + clip_high) A), then `dual_clip`.

    Source: arXiv 1707.06347, Eq. 7; ReLaX Eq. 3. ``clip_high > clip_low`` is DAPO's clip-higher (arXiv 2503.14476).

    Attributes:
        clip_low, clip_high: PPO's bounds, as distances from 1.
        delta: bound on the ratio of tokens with a negative advantage, which PPO's clip leaves open (the two-sided clip
            of INTELLECT-2; TRL's ``delta``); None: off.
        dual_clip: bound c on the loss of these tokens, c |A| (arXiv 1912.09729; verl's ``clip_ratio_c``); None: off.
            Where c and delta lie above 1 + clip_high they bound the same thing, and the smaller one acts.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    delta: float | None = None
    dual_clip: float | None = None

    def __post_init__(self) -> None:
        if self.clip_low < 0 or self.clip_high < 0:
            raise ConfigError(f"clip_low and clip_high must not be negative: {self.clip_low}, {self.clip_high}.")
        for name, bound in (("delta", self.delta), ("dual_clip", self.dual_clip)):
            if bound is not None and bound <= 1:
                raise ConfigError(
                    f"{name} bounds the ratio from above and must exceed 1, but is {bound}; leave it out to switch it "
                    "off."
                )

    def bounded(self, ratio: Tensor, advantages: Tensor, batch: RolloutBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for ratios (P, G, T) and advantages (P, G) or (P, G, T), and the shares clipped."""
        advantage, low, high = of_each_token(advantages), 1 - self.clip_low, 1 + self.clip_high
        # Only the free branch is capped: TRL's clip bounds stay as they are, also where delta lies inside them.
        free = ratio if self.delta is None else ratio.clamp(max=self.delta)
        loss = -torch.minimum(free * advantage, ratio.clamp(low, high) * advantage)
        if self.dual_clip is not None:
            loss = dual_clip(loss, advantage, self.dual_clip)
        return loss, clip_metrics((ratio < low) & (advantage < 0), (ratio > high) & (advantage > 0), batch)


@dataclass(frozen=True)
class ClippedSurrogate(RatioSurrogate):
    """PPO's clipped ratio of each token, r = exp(log_probs - old_log_probs); see `RatioSurrogate`."""

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        return self.bounded(torch.exp(batch.log_ratio), advantages, batch)


@dataclass(frozen=True)
class SequenceRatioSurrogate(RatioSurrogate):
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
        # Masked tokens have log ratio 0, so the sum is that of the completion; the length is clamped for an empty one.
        mean = log_ratio.sum(-1, keepdim=True) / batch.lengths.unsqueeze(-1).clamp(min=1)
        # Masked before the exponential, whose gradient would be NaN where a log-probability behind the mask is.
        own = (batch.log_probs - batch.log_probs.detach()).masked_fill(~batch.mask, 0.0)
        ratio = torch.exp(mean + own)
        return self.bounded(ratio, advantages, batch)
