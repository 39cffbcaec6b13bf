"""A bonus on the reward for spreading the group's mean states (after DQO, arXiv 2509.04784).

DQO's own formula and coefficient were not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.geometry import log_det_gains
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage, mean_states

__all__ = ["LogDetBonus", "LogDetSettings", "log_det"]


class LogDetSettings(AdvantageSettings, RatioSettings):
    """See `LogDetBonus`."""

    paper: ClassVar[str | None] = "2509.04784"
    verified: ClassVar[bool] = False

    coefficient: float = 0.1
    center: bool = False


def log_det(settings: LogDetSettings) -> Objective:
    """GRPO's loss with `LogDetBonus`."""
    return Objective(
        name="log_det",
        advantage=ShapedAdvantage(LogDetBonus(settings.coefficient, settings.center), settings.advantage),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class LogDetBonus(RewardShaping):
    """A completion is worth what it adds to the volume that its group's mean states span (after DQO, arXiv 2509.04784).

    reward + coefficient (log det(I + L) - log det(I + L without i)), L the Gram matrix of the group's vectors at length
    one, so the bonus is in [0, log 2]. DQO takes the vectors from an embedding model of its own; here they are the
    policy's mean final-norm states, which lie close together in most models: ``center`` takes the group's mean off
    first.

    Attributes:
        coefficient: 0.1, ours; DQO's was not seen.
        center: off, as in DQO.
    """

    coefficient: float = 0.1
    center: bool = False

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ConfigError(f"coefficient must not be negative, but is {self.coefficient}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({HIDDEN_STATES})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = batch.float_rewards
        vectors, has_states = mean_states(batch)
        takes_part = has_states & ~rewards.isnan()
        vectors = torch.where(takes_part.unsqueeze(-1), vectors, 0.0)
        # Mean states of most models lie close together, so that all Gram matrices are nearly the same without this.
        if self.center:
            mean = vectors.sum(1, keepdim=True) / takes_part.sum(-1).clamp(min=1)[:, None, None]
            vectors = vectors - mean
        return rewards + self.coefficient * log_det_gains(vectors, takes_part).to(rewards.dtype)
