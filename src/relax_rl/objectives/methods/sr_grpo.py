"""SR-GRPO (arXiv 2512.02807): the stable rank is the reward, and nothing else.

Known from the abstract and a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.koopman.geometry import stable_rank
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage, usable_states

__all__ = ["SRGRPOSettings", "StableRankReward", "sr_grpo"]


class SRGRPOSettings(AdvantageSettings, RatioSettings):
    """See `StableRankReward`."""

    paper: ClassVar[str | None] = "2512.02807"
    verified: ClassVar[bool] = False

    verifier_weight: float = 0.0


def sr_grpo(settings: SRGRPOSettings) -> Objective:
    """GRPO's loss with `StableRankReward`."""
    return Objective(
        name="sr_grpo",
        advantage=ShapedAdvantage(StableRankReward(settings.verifier_weight), settings.advantage),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class StableRankReward(RewardShaping):
    """SR-GRPO: the stable rank of a completion's states as its reward, without a verifier (arXiv 2512.02807).

    ||H||_F^2 / ||H||_2^2 of the final-layer states (T, H). Known from the abstract and a note.

    Attributes:
        verifier_weight: weight of the verifier's reward, which is added; 0 (the paper) leaves it out.
    """

    verifier_weight: float = 0.0

    def inputs(self) -> frozenset[Input]:
        return frozenset({HIDDEN_STATES})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        states, mask = usable_states(batch)
        rewards = batch.float_rewards
        rank = stable_rank(states, mask).to(rewards.dtype)
        rank = rank.masked_fill(~mask.any(-1), torch.nan)
        return rank if self.verifier_weight == 0 else rank + self.verifier_weight * rewards
