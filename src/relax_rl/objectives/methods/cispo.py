"""CISPO (arXiv 2506.13585): capped weights on the log-probability, mean over tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["CISPOSettings", "CappedWeightSurrogate", "cispo"]


class CISPOSettings(AdvantageSettings):
    """CISPO's. The bounds are absolute, as in TRL; see `CappedWeightSurrogate`."""

    paper: ClassVar[str | None] = "2506.13585"
    off_policy: ClassVar[frozenset[str]] = frozenset({"ratio_min", "ratio_max"})

    ratio_min: float = 0.0
    ratio_max: float = 5.0


def cispo(settings: CISPOSettings) -> Objective:
    """The loss of CISPO."""
    return Objective(
        name="cispo",
        advantage=settings.advantage,
        surrogate=CappedWeightSurrogate(settings.ratio_min, settings.ratio_max),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class CappedWeightSurrogate(Surrogate):
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
