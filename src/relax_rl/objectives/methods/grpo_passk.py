"""verl's ``grpo_passk`` (arXiv 2503.19595): only a group's best completion learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.advantages import centred
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["BestCompletionAdvantage", "GRPOPassKSettings", "grpo_passk"]


class GRPOPassKSettings(RatioSettings):
    """verl's; see `BestCompletionAdvantage`."""

    paper: ClassVar[str | None] = "2503.19595"

    epsilon: float = 1e-6


def grpo_passk(settings: GRPOPassKSettings) -> Objective:
    """The mean over tokens, verl's default. With rewards of 0 and 1 a group learns only where exactly one is right."""
    return Objective(
        name="grpo_passk",
        advantage=BestCompletionAdvantage(settings.epsilon),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class BestCompletionAdvantage(Advantage):
    """Only the best completion of a group learns: A = (r_max - r_second) / (std + epsilon) (arXiv 2503.19595; verl).

    The advantage of the others is 0, and so is that of the best where it shares its place. The std is the unbiased one
    of the scored completions.

    Attributes:
        epsilon: 1e-6 (verl's ``grpo_passk``).
    """

    epsilon: float = 1e-6

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        is_scored = ~rewards.isnan()
        count = is_scored.sum(-1, keepdim=True)
        std = (centred(rewards).square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        # Filled with -inf, so that what was not scored is never the best; the count below keeps -inf out of the lead.
        best, place = rewards.masked_fill(~is_scored, -torch.inf).topk(min(2, rewards.shape[-1]), dim=-1)
        lead = torch.where(count > 1, best[:, :1] - best[:, -1:], 0.0)
        return torch.zeros_like(rewards).scatter(-1, place[:, :1], lead / (std + self.epsilon)).detach()
