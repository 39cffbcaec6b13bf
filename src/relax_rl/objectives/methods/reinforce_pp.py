"""REINFORCE++ (arXiv 2501.03262): advantages are normalised over the rollout batch, not within a group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.advantages import centred
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import PROMPT_KEYS, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["GroupBaseline", "ReinforcePPSettings", "WhitenedAdvantage", "reinforce_pp"]

GroupBaseline = Literal["none", "group"]


class ReinforcePPSettings(RatioSettings):
    """verl's ``reinforce_plus_plus`` at a discount of 1, and with ``baseline = "group"`` its
    ``reinforce_plus_plus_baseline``. In the paper the KL is a part of each token's reward; here it is a term of the
    loss.

    Attributes:
        baseline: "group" subtracts the group's mean first.
    """

    paper: ClassVar[str | None] = "2501.03262"

    baseline: GroupBaseline = "none"


def reinforce_pp(settings: ReinforcePPSettings) -> Objective:
    """PPO's loss by tokens with `WhitenedAdvantage`."""
    return Objective(
        name="reinforce_pp",
        advantage=WhitenedAdvantage(settings.baseline),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class WhitenedAdvantage(Advantage):
    """A_i = (x_i - mean) / sqrt(var + 1e-8), x_i the reward or the reward less the group's mean.

    Mean and unbiased variance are over all tokens of the rollout batch, each with the x of its completion, as verl
    takes them: a long completion counts for more. A completion without a score takes no part and gets 0.

    Attributes:
        baseline: "none" or "group".
        mean, variance: mean and variance of the rollout batch; None before `Objective.before_rollout`, and then a batch
            that is a whole update stands for it.
    """

    baseline: GroupBaseline = "none"
    mean: float | None = None
    variance: float | None = None

    def __post_init__(self) -> None:
        if self.baseline not in get_args(GroupBaseline):
            raise ConfigError(f"baseline is {self.baseline!r}; choose one of {', '.join(get_args(GroupBaseline))}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({PROMPT_KEYS})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient.

        Raises:
            DataError: the batch is a part of an update, and nothing is known of the rollout batch.
        """
        if self.mean is None or self.variance is None:
            if batch.totals is not None and batch.totals.num_tokens != float(batch.mask.sum()):
                raise DataError(
                    "REINFORCE++ compares all completions of a rollout batch, and this batch is a part of an update: "
                    "call Objective.before_rollout with the rewards of all of them first."
                )
            return self._whitened(batch.float_rewards, batch.lengths)(batch)
        values = self._values(batch.float_rewards)
        return ((values - self.mean) / math.sqrt(self.variance + 1e-8)).nan_to_num(nan=0.0).detach()

    def _values(self, rewards: Tensor) -> Tensor:
        """(P, G); NaN where a completion was not scored."""
        return centred(rewards).masked_fill(rewards.isnan(), torch.nan) if self.baseline == "group" else rewards

    def _whitened(self, rewards: Tensor, lengths: Tensor) -> WhitenedAdvantage:
        values = self._values(rewards.double())
        weights = torch.where(values.isnan(), 0.0, lengths.double())
        count = float(weights.sum())
        if count == 0:
            return replace(self, mean=0.0, variance=0.0)
        values = values.nan_to_num(nan=0.0)
        mean = (weights * values).sum() / count
        variance = (weights * (values - mean).square()).sum() / max(count - 1, 1)
        return replace(self, mean=float(mean), variance=float(variance))

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> WhitenedAdvantage:
        rewards = rewards if rewards.is_floating_point() else rewards.float()
        return self._whitened(rewards, torch.ones_like(rewards) if lengths is None else lengths)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "variance": self.variance}

    def restored(self, state: Mapping[str, Any]) -> WhitenedAdvantage:
        return replace(self, mean=state["mean"], variance=state["variance"])
