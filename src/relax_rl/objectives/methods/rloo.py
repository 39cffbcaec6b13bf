"""RLOO (arXiv 2402.14740): the mean of the other completions is the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.objectives.advantages import centred
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["LeaveOneOutAdvantage", "RLOOSettings", "rloo"]


class RLOOSettings(RatioSettings):
    """verl's: the advantage of RLOO in PPO's loss by tokens. TRL's `RLOOTrainer` bounds the completion's ratio."""

    paper: ClassVar[str | None] = "2402.14740"


def rloo(settings: RLOOSettings) -> Objective:
    """PPO's loss by tokens with `LeaveOneOutAdvantage`."""
    return Objective(
        name="rloo",
        advantage=LeaveOneOutAdvantage(),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class LeaveOneOutAdvantage(Advantage):
    """A_i = r_i - mean_{j != i} r_j, which is G / (G - 1) times Dr. GRPO's (verl's ``rloo``).

    A completion without a score is none of the G and gets 0; so does one that is alone.
    """

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        count = (~rewards.isnan()).sum(-1, keepdim=True)
        return centred(rewards).detach() * count / (count - 1).clamp(min=1)
