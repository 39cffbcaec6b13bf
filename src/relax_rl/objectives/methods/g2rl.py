"""G2RL (arXiv 2512.15687): rewards by the novelty of a completion's gradient.

The value of its strength was not read at the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import SCORE_FEATURES, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage

__all__ = ["G2RLSettings", "GradientNovelty", "g2rl"]


class G2RLSettings(AdvantageSettings, RatioSettings):
    """See `GradientNovelty`."""

    paper: ClassVar[str | None] = "2512.15687"
    verified: ClassVar[bool] = False

    strength: float = 0.5
    correct_reward: float = 1.0


def g2rl(settings: G2RLSettings) -> Objective:
    """GRPO's loss with `GradientNovelty`."""
    novelty = GradientNovelty(settings.strength, settings.correct_reward)
    return Objective(
        name="g2rl",
        advantage=ShapedAdvantage(novelty, settings.advantage),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class GradientNovelty(RewardShaping):
    """G2RL: a completion counts for more where its gradient points elsewhere than its group's (arXiv 2512.15687).

    With Phi_i the mean gradient of completion i's log-probabilities in the last hidden state
    (the input `SCORE_FEATURES`), r_i = 1 for right and -1 for wrong, S_ij the cosine of Phi_i and Phi_j and w_ij the
    softmax of r_j over j != i,

        nu_i = max(1 - sum_j w_ij S_ij^2, 0),  brought to [0, 1] within the group by its least and greatest,
        reward = clip(r_i (1 + strength r_i nu_i), -3, 3).

    As printed (Eq. 12 and 13) this takes off the penalty of a wrong completion that is new, though the text says that
    it adds to it.

    Attributes:
        strength: the paper's lambda, whose value we did not see: 0.5 is ours.
        correct_reward: completions with at least this reward are right.
    """

    strength: float = 0.5
    correct_reward: float = 1.0

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, but is {self.strength}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({SCORE_FEATURES})

    def novelty(self, features: Tensor, signs: Tensor, takes_part: Tensor) -> Tensor:
        """(P, G) nu in [0, 1]; 0 for what takes no part and where a group has no two that do."""
        unit = torch.nn.functional.normalize(features.double(), dim=-1)
        similarity = (unit @ unit.mT).square()
        others = takes_part.unsqueeze(1) & ~torch.eye(similarity.shape[-1], dtype=torch.bool, device=features.device)
        # -1e30 and not -inf: a completion without others would have a softmax of NaN.
        scores = signs.double().unsqueeze(1).expand_as(similarity).masked_fill(~others, -1e30)
        weights = scores.softmax(-1).masked_fill(~others, 0.0)
        novelty = (1 - (weights * similarity).sum(-1)).clamp(min=0)
        low = novelty.masked_fill(~takes_part, torch.inf).amin(-1, keepdim=True)
        high = novelty.masked_fill(~takes_part, -torch.inf).amax(-1, keepdim=True)
        spread = high - low
        # Equal novelties have no order: all 0 then, and no division by 0.
        scaled = torch.where(spread > 1e-9, (novelty - low) / spread.clamp(min=1e-9), 0.0)
        return scaled.masked_fill(~takes_part, 0.0)

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = batch.float_rewards
        features = batch.required(SCORE_FEATURES).detach()
        takes_part = ~rewards.isnan() & (batch.lengths > 0) & features.isfinite().all(-1)
        signs = torch.where(rewards >= self.correct_reward, 1.0, -1.0).to(rewards.dtype)
        kept = torch.where(takes_part.unsqueeze(-1), features, 0.0)
        novelty = self.novelty(kept, signs, takes_part).to(rewards.dtype)
        shaped = (signs * (1 + self.strength * signs * novelty)).clamp(-3.0, 3.0)
        return torch.where(rewards.isnan(), rewards, shaped)
