"""RepExp (arXiv 2510.11686): an elliptical bonus on the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage, mean_states

__all__ = ["EllipticalBonus", "RepExpSettings", "rep_exp"]


EllipticalKind = Literal["leverage", "leave_one_out"]


class RepExpSettings(AdvantageSettings, RatioSettings):
    """RepExp's; see `EllipticalBonus`.

    Attributes:
        coefficient: coefficient of the bonus.
        dimension: size of the random projection of the mean states.
        ridge: ridge of their covariance.
        kind: "leverage" counts a completion among the others, "leave_one_out" against them.
        seed: seed of the projection.
    """

    paper: ClassVar[str | None] = "2510.11686"

    coefficient: float = 0.01
    dimension: int = 32
    ridge: float = 0.01
    kind: EllipticalKind = "leverage"
    correct_reward: float = 1.0
    seed: int = 0


def rep_exp(settings: RepExpSettings) -> Objective:
    """GRPO by tokens with `EllipticalBonus`."""
    bonus = EllipticalBonus(
        settings.coefficient, settings.dimension, settings.ridge, settings.kind, settings.correct_reward, settings.seed
    )
    return Objective(
        name="rep_exp",
        advantage=ShapedAdvantage(bonus, settings.advantage),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class EllipticalBonus(RewardShaping):
    """RepExp: completions that lie where the others of their group do not are worth more (arXiv 2510.11686).

    With f_i the mean state of completion i, less the group's mean, brought to ``dimension`` numbers by a random sparse
    projection, and C = ridge I + sum_j f_j f_j^T,

        leverage:       b_i = f_i^T C^-1 f_i
        leave_one_out:  b_i with C less its own term, which is b / (1 - b) of the leverage,

    reward + coefficient b_i; nothing in a group of which no completion is right.

    As in verl's recipe, but for two things. The states are those of the policy as it is; the recipe runs a frozen copy
    of the initial model. And the projection is drawn once, by ``seed``; the recipe draws a new one at each call.
    The leverages of a group sum to at most G - 1: where the states are large against the ridge, all are near
    (G - 1) / G, and there is nothing to tell completions apart by.

    Attributes:
        coefficient: 0.01; dimension: 32; ridge: 0.01; kind: "leverage" (the recipe's script; its YAML says
            "leave_one_out").
        correct_reward: completions with at least this reward are right.
    """

    coefficient: float = 0.01
    dimension: int = 32
    ridge: float = 0.01
    kind: EllipticalKind = "leverage"
    correct_reward: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(EllipticalKind):
            raise ConfigError(f"kind is {self.kind!r}; choose one of {', '.join(get_args(EllipticalKind))}.")
        if self.coefficient < 0 or self.dimension < 1 or self.ridge <= 0:
            raise ConfigError(
                f"RepExp needs coefficient >= 0, dimension >= 1 and ridge > 0, but they are {self.coefficient}, "
                f"{self.dimension} and {self.ridge}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({HIDDEN_STATES})

    def projection(self, width: int) -> Tensor:
        """(H, dimension) float64, of which one entry in sqrt(H) is not 0 (Li et al., KDD 2006)."""
        # Drawn from the seed at each call and not kept: a component holds no tensors, and H is known only here.
        generator = torch.Generator().manual_seed(self.seed)
        density = width**-0.5
        shape = (width, self.dimension)
        signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.float64) * 2 - 1
        is_kept = torch.rand(shape, generator=generator, dtype=torch.float64) < density
        return signs * is_kept / (density * self.dimension) ** 0.5

    def bonuses(self, features: Tensor, takes_part: Tensor) -> Tensor:
        """(P, G) b_i for features (P, G, k); 0 for those that take no part."""
        count = takes_part.sum(-1).clamp(min=1)[:, None, None]
        kept = torch.where(takes_part.unsqueeze(-1), features, 0.0)
        # Those that take no part are 0 after centring, too, or the group's mean would put them back.
        centred = torch.where(takes_part.unsqueeze(-1), kept - kept.sum(1, keepdim=True) / count, 0.0)
        identity = torch.eye(centred.shape[-1], dtype=centred.dtype, device=centred.device)
        covariance = self.ridge * identity + centred.mT @ centred
        leverage = (centred * torch.linalg.solve(covariance, centred.mT).mT).sum(-1)
        return leverage if self.kind == "leverage" else leverage / (1 - leverage)

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = batch.float_rewards
        states, has_states = mean_states(batch)
        features = states @ self.projection(states.shape[-1]).to(states.device)
        bonus = self.bonuses(features, has_states & ~rewards.isnan())
        is_solved = (rewards >= self.correct_reward).any(-1, keepdim=True)
        return rewards + self.coefficient * torch.where(is_solved, bonus, 0.0).to(rewards.dtype)
