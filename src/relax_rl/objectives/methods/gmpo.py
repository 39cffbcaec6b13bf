"""GMPO (arXiv 2507.20673): the geometric mean of the ratios of a completion, each bounded by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, ClipSettings
from relax_rl.objectives.surrogates import clip_metrics

__all__ = ["GMPOSettings", "GeometricMeanSurrogate", "gmpo"]


class GMPOSettings(AdvantageSettings, ClipSettings):
    """GMPO's: bounds on the logarithm of the ratio, exp(-0.4) to exp(0.4), wider than PPO's."""

    paper: ClassVar[str | None] = "2507.20673"

    clip_low: float = 0.4
    clip_high: float = 0.4


def gmpo(settings: GMPOSettings) -> Objective:
    """loss = -(1/B) sum_i A_i exp(mean_t bounded log r_it)."""
    return Objective(
        name="gmpo",
        advantage=settings.advantage,
        surrogate=GeometricMeanSurrogate(settings.clip_low, settings.clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class GeometricMeanSurrogate(Surrogate):
    """-A exp(mean_t l_t), where l_t is log r_t bounded by clip_high above if A > 0, and by -clip_low below if A < 0.

    The mean of logarithms is less moved by one token than the mean of ratios. Equals verl's ``geo_mean``.

    Attributes:
        clip_low, clip_high: distances from 0, the logarithm of a ratio of 1.
    """

    clip_low: float = 0.4
    clip_high: float = 0.4

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G), equal within a completion, and the shares bounded."""
        advantage = advantages.unsqueeze(-1)
        log_ratio = batch.log_ratio
        is_low, is_high = (log_ratio < -self.clip_low) & (advantage < 0), (log_ratio > self.clip_high) & (advantage > 0)
        bounded = torch.where(is_high, self.clip_high, torch.where(is_low, -self.clip_low, log_ratio))
        # Masked tokens have log ratio 0, so the sum is that of the completion; the length is clamped for an empty one.
        mean = bounded.sum(-1, keepdim=True) / batch.lengths.unsqueeze(-1).clamp(min=1)
        return (-advantage * torch.exp(mean)).expand_as(log_ratio), clip_metrics(is_low, is_high, batch)
