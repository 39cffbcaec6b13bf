"""TailRL (arXiv 2609.02987): MaxRL for rewards of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.advantages import centred
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["TailAdvantage", "TailRLSettings", "tailrl"]


class TailRLSettings(RatioSettings):
    """The method is its advantage; the rest is GRPO's."""

    paper: ClassVar[str | None] = "2609.02987"

    verified: ClassVar[bool] = False


def tailrl(settings: TailRLSettings) -> Objective:
    """GRPO's loss with `TailAdvantage`."""
    return Objective(
        name="tailrl",
        advantage=TailAdvantage(),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class TailAdvantage(Advantage):
    """A = w - mean(w), with w_(i) = w_(i-1) + (r_(i) - r_(i-1)) / (N - i + 1) over the rewards in ascending order.

    What lifts a completion above another counts by how few are lifted as high. With rewards of 0 and 1 it is MaxRL's
    advantage divided by N. A constant added to all rewards changes nothing, and equal rewards get equal advantages.
    """

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        is_scored = ~rewards.isnan()
        count = is_scored.sum(-1, keepdim=True)
        # What was not scored comes last, where its steps count nothing.
        ordered, order = rewards.masked_fill(~is_scored, torch.inf).sort(-1)
        places = torch.arange(rewards.shape[-1], device=rewards.device)
        steps = ordered.diff(dim=-1, prepend=torch.zeros_like(ordered[:, :1]))
        steps = torch.where(places < count, steps, 0.0) / (count - places).clamp(min=1)
        weights = torch.zeros_like(rewards).scatter(-1, order, steps.cumsum(-1))
        return centred(weights.masked_fill(~is_scored, torch.nan)).detach()
