"""Cheng et al., "Reasoning with Exploration" (arXiv 2506.14758): more advantage where the entropy is high.

Known from a note on the paper, not from its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["EntropyAdvantageSettings", "EntropyShaping", "entropy_advantage"]


class EntropyAdvantageSettings(AdvantageSettings, RatioSettings):
    """The paper's, on DAPO's loss; see `EntropyShaping`."""

    paper: ClassVar[str | None] = "2506.14758"
    verified: ClassVar[bool] = False

    scale: float = 0.4
    kappa: float = 2.0
    clip_high: float = 0.28


def entropy_advantage(settings: EntropyAdvantageSettings) -> Objective:
    """DAPO's loss (clip-higher, mean over tokens) with `EntropyShaping`."""
    return Objective(
        name="entropy_advantage",
        advantage=settings.advantage,
        token_weights=EntropyShaping(settings.scale, settings.kappa),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class EntropyShaping(TokenWeights):
    """More advantage for tokens of high entropy: A_t = A + min(scale sg[H_t], |A| / kappa) (arXiv 2506.14758).

    With kappa > 1 no advantage changes its sign, and A = 0 stays 0. The entropy is the current policy's, in nats; sg
    stops the gradient.

    Attributes:
        scale: 0.4 (the paper's alpha for GRPO; 0.1 for PPO).
        kappa: 2 (paper).
    """

    scale: float = 0.4
    kappa: float = 2.0

    def __post_init__(self) -> None:
        if self.scale < 0 or self.kappa <= 1:
            raise ConfigError(
                f"Entropy shaping needs scale >= 0 and kappa > 1, but they are {self.scale} and {self.kappa}; "
                "a smaller kappa would turn advantages around."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        advantage = advantages.unsqueeze(-1)
        # Detached: a bonus with gradient would be an entropy term, weighted by the advantage.
        bonus = self.scale * batch.required(ENTROPY).detach()
        return advantage + torch.minimum(bonus, advantage.abs() / self.kappa), {}
