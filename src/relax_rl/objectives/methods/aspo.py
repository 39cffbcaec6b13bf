"""ASPO (arXiv 2510.06062): the ratio of good tokens turned upside down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, of_each_token, unit_ratio

__all__ = ["ASPOSettings", "FlippedRatioSurrogate", "aspo"]


class ASPOSettings(AdvantageSettings):
    """ASPO's; see `FlippedRatioSurrogate`."""

    paper: ClassVar[str | None] = "2510.06062"
    off_policy: ClassVar[frozenset[str]] = frozenset(
        {"clip_low_entropy", "clip_high_entropy", "entropy_quantile", "cap"}
    )

    clip_low_entropy: float = 0.2
    clip_high_entropy: float = 0.4
    entropy_quantile: float = 0.8
    cap: float = 3.0


def aspo(settings: ASPOSettings) -> Objective:
    """Mean over tokens, the default of verl, which the authors' code is built on."""
    return Objective(
        name="aspo",
        advantage=settings.advantage,
        surrogate=FlippedRatioSurrogate(
            settings.clip_low_entropy, settings.clip_high_entropy, settings.entropy_quantile, settings.cap
        ),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class FlippedRatioSurrogate(Surrogate):
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

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    def clip(self, batch: RolloutBatch) -> Tensor:
        """(P, G, T) the clip of each token."""
        # NaN where masked, so that the quantile is one of the completion's own tokens.
        entropy = batch.required(ENTROPY).detach().float().masked_fill(~batch.mask, torch.nan)
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
