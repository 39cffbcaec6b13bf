"""Surrogates that bound the ratio otherwise than PPO: for each token its own, or with some gradient left outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.entropy import require_entropy
from relax_rl.objectives.surrogates import ClippedSurrogate, clip_metrics, of_each_token

__all__ = [
    "DynamicClipSurrogate",
    "EntropyRatioSurrogate",
    "FlippedRatioSurrogate",
    "GradientPreservingSurrogate",
    "dual_clip",
    "unit_ratio",
]


def dual_clip(loss: Tensor, advantage: Tensor, bound: float) -> Tensor:
    """min(loss, -bound A) where A < 0: a huge ratio on a bad token no longer counts (arXiv 1912.09729)."""
    return torch.where(advantage < 0, torch.minimum(loss, -bound * advantage), loss)


def unit_ratio(batch: RolloutBatch) -> Tensor:
    """(P, G, T) r / sg[r]: 1, with the gradient 1 for the token's log-probability. Masked before the exponential."""
    return torch.exp((batch.log_probs - batch.log_probs.detach()).masked_fill(~batch.mask, 0.0))


@dataclass(frozen=True)
class GradientPreservingSurrogate:
    """CE-GPPO: tokens that PPO would clip keep a bounded part of their gradient (arXiv 2509.20712).

        -beta_low (1 - clip_low) (r / sg[r]) A     where r < 1 - clip_low and A < 0,
        -beta_high (1 + clip_high) (r / sg[r]) A   where r > 1 + clip_high and A > 0,
        -r A                                       elsewhere; then `dual_clip`.

    With both betas 0 its gradient is PPO's.

    Attributes:
        beta_low, beta_high: 0.75 and 1 (the paper's for 7B; 0.5 and 1 for 1.5B).
        dual_bound: 10 (the authors' code).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta_low: float = 0.75
    beta_high: float = 1.0
    dual_bound: float = 10.0

    def __post_init__(self) -> None:
        if self.beta_low < 0 or self.beta_high < 0:
            raise ConfigError(f"beta_low and beta_high must not be negative: {self.beta_low}, {self.beta_high}.")

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens outside the bounds."""
        ratio, unit, advantage = torch.exp(batch.log_ratio), unit_ratio(batch), of_each_token(advantages)
        is_low = (ratio < 1 - self.clip_low) & (advantage < 0)
        is_high = (ratio > 1 + self.clip_high) & (advantage > 0)
        factor = torch.where(is_low, self.beta_low * (1 - self.clip_low) * unit, ratio)
        factor = torch.where(is_high, self.beta_high * (1 + self.clip_high) * unit, factor)
        return dual_clip(-factor * advantage, advantage, self.dual_bound), clip_metrics(is_low, is_high, batch)


@dataclass(frozen=True)
class FlippedRatioSurrogate:
    """ASPO: good tokens are weighted by 1 / r, so that those already likelier get less (arXiv 2510.06062).

        A < 0: -A max(r, 1 - clip);  where r > cap: -A cap log_probs
        A > 0: -A (c / sg[c]) / sg[c], c = min(r, 1 + clip), so nothing above 1 + clip;  where 1 / c > cap:
               -A cap log_probs

    The clip is wider for tokens whose entropy is above the given quantile of their own completion's. (In the authors'
    code the variable named ``high_entropy_mask`` is true on the tokens of low entropy.)

    Attributes:
        clip_low_entropy, clip_high_entropy: 0.2 and 0.4 (the authors' scripts), for either side.
        entropy_quantile: 0.8 (the authors' scripts).
        cap: 3 (the authors' code).
    """

    clip_low_entropy: float = 0.2
    clip_high_entropy: float = 0.4
    entropy_quantile: float = 0.8
    cap: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.entropy_quantile <= 1:
            raise ConfigError(f"entropy_quantile must be in [0, 1], but is {self.entropy_quantile}.")
        if self.cap < 1:
            raise ConfigError(f"cap must be at least 1, but is {self.cap}.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def clip(self, batch: RolloutBatch) -> Tensor:
        """(P, G, T) the clip of each token."""
        entropy = require_entropy(batch).detach().float().masked_fill(~batch.mask, torch.nan)
        threshold = torch.nanquantile(entropy, self.entropy_quantile, dim=-1, keepdim=True)
        clip = torch.full_like(batch.log_probs.detach(), self.clip_low_entropy)
        return clip.masked_fill(entropy > threshold, self.clip_high_entropy)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        ratio, advantage, clip = torch.exp(batch.log_ratio.detach()), of_each_token(advantages), self.clip(batch)
        is_low = (ratio < 1 - clip) & (advantage < 0)
        is_high = (ratio > 1 + clip) & (advantage > 0)
        inverse = 1 / torch.minimum(ratio, 1 + clip)
        # Bounded before they are chosen from: an infinity in the branch not taken would make the gradient NaN.
        negative = torch.maximum(torch.exp(batch.log_ratio.clamp(max=math.log(self.cap))), 1 - clip)
        positive = inverse.clamp(max=self.cap) * torch.where(ratio > 1 + clip, 1.0, unit_ratio(batch))
        is_capped = torch.where(advantage > 0, inverse, ratio) > self.cap
        factor = torch.where(advantage > 0, positive, negative)
        factor = torch.where(is_capped, self.cap * batch.log_probs, factor)
        return -advantage * factor, clip_metrics(is_low, is_high, batch)


@dataclass(frozen=True)
class DynamicClipSurrogate:
    """DCPO's dynamic clip: bounds on the ratio that widen as the token was rarer (arXiv 2509.02333).

    With q the probability under the policy that sampled the token,

        low = 1/2 + sqrt(max(1 - 4 clip_low / q, 0)) / 2,   high = min(1/2 + sqrt(1 + 4 clip_high / q) / 2, high_max),

    -min(r A, clip(r, low, high) A), then `dual_clip`.

    Attributes:
        clip_low, clip_high: 0.16 and 0.2 (paper; the released script leaves 0.2 and sets 0.28).
        high_max, dual_bound: 10 each (the authors' code).
    """

    clip_low: float = 0.16
    clip_high: float = 0.2
    high_max: float = 10.0
    dual_bound: float = 10.0

    def bounds(self, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
        """(P, G, T) lower and upper bound on each token's ratio."""
        inverse = torch.exp(-batch.old_log_probs.masked_fill(~batch.mask, 0.0))
        low = 0.5 + 0.5 * (1 - 4 * self.clip_low * inverse).clamp(min=0).sqrt()
        high = 0.5 + 0.5 * (1 + 4 * self.clip_high * inverse).sqrt()
        return low, high.clamp(max=self.high_max)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        ratio, advantage = torch.exp(batch.log_ratio), of_each_token(advantages)
        low, high = self.bounds(batch)
        loss = -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
        metrics = clip_metrics((ratio < low) & (advantage < 0), (ratio > high) & (advantage > 0), batch)
        return dual_clip(loss, advantage, self.dual_bound), metrics


@dataclass(frozen=True)
class EntropyRatioSurrogate:
    """ERC: no gradient for tokens whose distribution has become broader or narrower (arXiv 2512.05591; authors' code).

    On PPO's clipped loss with `dual_clip`: where (H + 1e-8) / (H_old + 1e-8) leaves (1 - entropy_low, 1 + entropy_high)
    the token keeps its loss and its place in the mean, and loses its gradient. H_old is the entropy under the policy
    that sampled. Where that is the current policy all ratios are 1, and it acts from a rollout's second update on.

    Attributes:
        clipped: 0.2 and 0.28, as DAPO (the authors' script).
        entropy_low, entropy_high: 0.05 each (the authors' script).
        dual_bound: 10 (the authors' script).
    """

    clipped: ClippedSurrogate
    entropy_low: float = 0.05
    entropy_high: float = 0.05
    dual_bound: float = 10.0

    def __post_init__(self) -> None:
        if min(self.entropy_low, self.entropy_high) <= 0:
            raise ConfigError(
                f"entropy_low and entropy_high must be positive, but are {self.entropy_low} and {self.entropy_high}."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy", "old_entropy"})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        loss, metrics = self.clipped(batch, advantages)
        loss = dual_clip(loss, of_each_token(advantages), self.dual_bound)
        ratio = (batch.required("entropy").detach() + 1e-8) / (batch.required("old_entropy").detach() + 1e-8)
        stays = (ratio > 1 - self.entropy_low) & (ratio < 1 + self.entropy_high)
        num_tokens = batch.mask.sum().clamp(min=1)
        return torch.where(stays, loss, loss.detach()), metrics | {
            "clip_ratio/entropy": (~stays & batch.mask).sum() / num_tokens
        }
