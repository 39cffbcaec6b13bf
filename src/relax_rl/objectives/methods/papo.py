"""PAPO (arXiv 2507.06448): GRPO that also moves away from what the policy would say of a masked image.

Read in the authors' code (MikeWangWZHL/PAPO, fb63bf4: dp_actor.py, papo_utils.py, the GRPO scripts of the 7B model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input, MaskedLogProbs
from relax_rl.objectives.kl import token_kl
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.sight import SurprisalPenalty, require_mask

__all__ = ["PAPOSettings", "PerceptionTerm", "papo"]


class PAPOSettings(AdvantageSettings, RatioSettings):
    """Those of the authors' GRPO script of the 7B model; see `PerceptionTerm`.

    Attributes:
        gamma: coefficient of the perception term (0.01 in their DAPO script).
        entropy_coefficient: coefficient of `SurprisalPenalty`, their eta (0.03 in their DAPO script).
        mask_share: share of an image's squares that are black.
        mask_patch: side of a square in pixels.
        beta: coefficient of the KL to the reference; 0 in their DAPO script.
    """

    paper: ClassVar[str | None] = "2507.06448"

    gamma: float = 0.02
    entropy_coefficient: float = 0.05
    mask_share: float = 0.6
    mask_patch: int = 14
    beta: float = 0.01
    clip_high: float = 0.3
    dual_clip: float | None = 3.0
    epsilon: float = 1e-6


def papo(settings: PAPOSettings) -> Objective:
    """loss = GRPO by tokens + beta KL - gamma KL(policy || masked) + eta surprisal.

    Their double entropy loss has a second part, the surprisal under masked images. Their code computes it once a
    rollout, so that it has no gradient; it is left out here.
    """
    masked = MaskedLogProbs(share=settings.mask_share, patch=settings.mask_patch)
    return Objective(
        name="papo",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(
            *settings.kl("token_mean"),
            PerceptionTerm(settings.gamma, masked),
            SurprisalPenalty(settings.entropy_coefficient),
        ),
    )


@dataclass(frozen=True)
class PerceptionTerm(Regularizer):
    """-gamma times the mean over tokens of the k3 estimate of KL(policy || policy with a masked image).

    With d = log_probs - masked_log_probs: exp(-d) - 1 + d, d within 20 of 0 and the estimate at most 10. The masked
    log-probabilities are those of the policy that sampled, without gradient. Beyond the bound a token has no gradient.

    Attributes:
        gamma: coefficient.
        masked: part of the image that is masked.
    """

    gamma: float
    masked: MaskedLogProbs

    def __post_init__(self) -> None:
        require_mask(self.masked.share, self.masked.patch)
        if self.gamma < 0:
            raise ConfigError(f"gamma must not be negative, but is {self.gamma}; 0 switches the term off.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.masked}) if self.is_active else frozenset()

    @property
    def is_active(self) -> bool:
        return self.gamma != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        hidden = batch.required(self.masked).detach()
        # Both are 0 where masked, and so is the estimate.
        kl = token_kl(log_probs, hidden.to(log_probs.dtype))
        share = kl.sum() / max(batch.update_totals.num_tokens, 1.0)
        return -self.gamma * share, {"sight/kl_masked": kl.detach().sum() / batch.mask.sum().clamp(min=1)}
