"""Entropy ratio clipping (arXiv 2512.05591) on DAPO's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, OLD_ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.surrogates import ClippedSurrogate

__all__ = ["ERCSettings", "EntropyRatioSurrogate", "erc"]


class ERCSettings(AdvantageSettings, RatioSettings):
    """The paper's; see `EntropyRatioSurrogate`."""

    paper: ClassVar[str | None] = "2512.05591"
    off_policy: ClassVar[frozenset[str]] = frozenset({"entropy_low", "entropy_high"})

    entropy_low: float = 0.05
    entropy_high: float = 0.05
    clip_high: float = 0.28
    dual_clip: float | None = 10.0


def erc(settings: ERCSettings) -> Objective:
    """DAPO's loss with `EntropyRatioSurrogate`."""
    return Objective(
        name="erc",
        advantage=settings.advantage,
        surrogate=EntropyRatioSurrogate(settings.surrogate, settings.entropy_low, settings.entropy_high),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class EntropyRatioSurrogate(Surrogate):
    """ERC: no gradient for tokens whose distribution has become broader or narrower (arXiv 2512.05591; authors' code).

    On PPO's clipped loss with `dual_clip`: where (H + 1e-8) / (H_old + 1e-8) leaves (1 - entropy_low, 1 + entropy_high)
    the token keeps its loss and its place in the mean, and loses its gradient. H_old is the entropy under the policy
    that sampled. Where that is the current policy all ratios are 1, and it acts from a rollout's second update on.

    Attributes:
        clipped: 0.2 and 0.28, as DAPO, and a dual clip of 10 (the authors' script).
        entropy_low, entropy_high: 0.05 each (the authors' script).
    """

    clipped: ClippedSurrogate
    entropy_low: float = 0.05
    entropy_high: float = 0.05

    def __post_init__(self) -> None:
        if min(self.entropy_low, self.entropy_high) <= 0:
            raise ConfigError(
                f"entropy_low and entropy_high must be positive, but are {self.entropy_low} and {self.entropy_high}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY, OLD_ENTROPY})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        loss, metrics = self.clipped(batch, advantages)
        # 1e-8 as in the authors' code: a token that was certain has entropy 0 in both.
        ratio = (batch.required(ENTROPY).detach() + 1e-8) / (batch.required(OLD_ENTROPY).detach() + 1e-8)
        stays = (ratio > 1 - self.entropy_low) & (ratio < 1 + self.entropy_high)
        num_tokens = batch.mask.sum().clamp(min=1)
        # Detached and not zeroed: the value that is logged stays, the gradient goes.
        return torch.where(stays, loss, loss.detach()), metrics | {
            "clip_ratio/entropy": (~stays & batch.mask).sum() / num_tokens
        }
