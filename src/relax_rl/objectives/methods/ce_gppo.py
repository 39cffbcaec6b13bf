"""CE-GPPO (arXiv 2509.20712): tokens outside the clip keep a bounded gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, ClipSettings
from relax_rl.objectives.surrogates import clip_metrics, dual_clip, of_each_token, unit_ratio

__all__ = ["CEGPPOSettings", "GradientPreservingSurrogate", "ce_gppo"]


class CEGPPOSettings(AdvantageSettings, ClipSettings):
    """CE-GPPO's; see `GradientPreservingSurrogate`. The authors also draw prompts dynamically."""

    paper: ClassVar[str | None] = "2509.20712"
    off_policy: ClassVar[frozenset[str]] = frozenset({"beta_low", "beta_high", "dual_clip"})

    beta_low: float = 0.75
    beta_high: float = 1.0
    dual_clip: float = 10.0


def ce_gppo(settings: CEGPPOSettings) -> Objective:
    """The loss of CE-GPPO."""
    return Objective(
        name="ce_gppo",
        advantage=settings.advantage,
        surrogate=GradientPreservingSurrogate(
            settings.clip_low, settings.clip_high, settings.beta_low, settings.beta_high, settings.dual_clip
        ),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class GradientPreservingSurrogate(Surrogate):
    """CE-GPPO: tokens that PPO would clip keep a bounded part of their gradient (arXiv 2509.20712).

        -beta_low (1 - clip_low) (r / sg[r]) A     where r < 1 - clip_low and A < 0,
        -beta_high (1 + clip_high) (r / sg[r]) A   where r > 1 + clip_high and A > 0,
        -r A                                       elsewhere; then `dual_clip`.

    With both betas 0 its gradient is PPO's.

    Attributes:
        beta_low, beta_high: 0.75 and 1 (the paper's for 7B; 0.5 and 1 for 1.5B).
        dual_clip: 10 (the authors' code).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta_low: float = 0.75
    beta_high: float = 1.0
    dual_clip: float = 10.0

    def __post_init__(self) -> None:
        if self.beta_low < 0 or self.beta_high < 0:
            raise ConfigError(f"beta_low and beta_high must not be negative: {self.beta_low}, {self.beta_high}.")

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens outside the bounds."""
        ratio, unit, advantage = torch.exp(batch.log_ratio), unit_ratio(batch), of_each_token(advantages)
        is_low = (ratio < 1 - self.clip_low) & (advantage < 0)
        is_high = (ratio > 1 + self.clip_high) & (advantage > 0)
        # The value of the bound with the gradient of the ratio: r / sg[r] is 1, and its derivative is not.
        factor = torch.where(is_low, self.beta_low * (1 - self.clip_low) * unit, ratio)
        factor = torch.where(is_high, self.beta_high * (1 + self.clip_high) * unit, factor)
        return dual_clip(-factor * advantage, advantage, self.dual_clip), clip_metrics(is_low, is_high, batch)
