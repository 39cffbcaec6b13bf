"""MARA (arXiv 2510.20817): right completions that the reference finds unlikely are worth as much as its favourite.

Known from a note that formalises the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import REF_LOG_PROBS, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage

__all__ = ["AnchoredReward", "MARASettings", "mara"]


class MARASettings(RatioSettings):
    """See `AnchoredReward`.

    Attributes:
        beta: coefficient of the KL, and the strength unless that is set. It must be above 0.
        strength: nats of the reference in units of the reward; None: beta, with which the method is exact.
        right_from: completions with at least this reward are right.
        per_token: compare mean log-probabilities, so that the bonus does not grow with the length.
        max_bonus: bound on what is added to a reward; None: none.
    """

    paper: ClassVar[str | None] = "2510.20817"
    verified: ClassVar[bool] = False

    beta: float = 0.01
    strength: float | None = None
    right_from: float = 1.0
    per_token: bool = False
    max_bonus: float | None = None


def mara(settings: MARASettings) -> Objective:
    """Dr. GRPO's advantage (no division by the std, or the bonus of a group that is all right would have size 1) of
    `AnchoredReward` in GRPO's loss, with the KL of the same coefficient."""
    strength = settings.beta if settings.strength is None else settings.strength
    reward = AnchoredReward(strength, settings.right_from, settings.per_token, settings.max_bonus)
    return Objective(
        name="mara",
        advantage=ShapedAdvantage(reward, GroupRelativeAdvantage(scale=False)),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class AnchoredReward(RewardShaping):
    """Among the right completions of a group, z is the one that the reference finds most likely. The others get

        R_z + strength (l_z - l_i),    l the log-probability of a whole completion under the reference.

    With the KL of the same coefficient, what maximises reward - beta KL is then as likely to answer one way as the
    other. Without, it keeps the reference's ratios between answers of equal reward, whatever beta is (Remark 4.3).

    The log-probability of a completion falls with its length, so this pays for length; see ``per_token`` and
    ``max_bonus``.

    Attributes:
        strength: beta of the KL.
        right_from: smallest reward of a right completion.
        per_token: whether l is a mean over tokens.
        max_bonus: bound on the bonus; None: none.
    """

    strength: float = 0.01
    right_from: float = 1.0
    per_token: bool = False
    max_bonus: float | None = None

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ConfigError(
                f"MARA does nothing at a strength of {self.strength}; set objective.beta above 0, or choose dr_grpo."
            )
        if self.max_bonus is not None and not self.max_bonus > 0:
            raise ConfigError(f"max_bonus must be above 0, but is {self.max_bonus}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({REF_LOG_PROBS})

    @property
    def reference_coefficient(self) -> float:
        return self.strength

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) rewards, no gradient; NaN where a completion was not scored."""
        rewards = batch.float_rewards
        likelihood = batch.required(REF_LOG_PROBS).detach().sum(-1)
        if self.per_token:
            likelihood = likelihood / batch.lengths.clamp(min=1)
        is_right = rewards >= self.right_from
        best = likelihood.masked_fill(~is_right, -torch.inf)
        place = best.argmax(-1, keepdim=True)
        bonus = self.strength * (likelihood.gather(-1, place) - likelihood)
        bonus = bonus if self.max_bonus is None else bonus.clamp(max=self.max_bonus)
        return torch.where(is_right, rewards.gather(-1, place) + bonus, rewards).to(rewards.dtype)
