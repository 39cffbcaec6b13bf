"""Dr. GRPO (arXiv 2503.20783): no division by the group's std, none by the completion's length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.base import Aggregation
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["DrGRPOSettings", "SequenceMeanTokenSum", "dr_grpo"]


class DrGRPOSettings(RatioSettings):
    """Dr. GRPO's.

    Attributes:
        max_completion_length: the constant that stands in for the completion's length; None takes the run's limit, as
            the authors and TRL do, and their 3000 where there is no run. It scales the loss and the KL alike.
    """

    paper: ClassVar[str | None] = "2503.20783"

    max_completion_length: int | None = None


AUTHORS_LIMIT = 3000
"""Longest completion of the authors' runs, in tokens."""


def dr_grpo(settings: DrGRPOSettings, limits: RunLimits) -> Objective:
    """loss = (1/B) sum_i (1/max_completion_length) sum_t PPO(r, R_i - mean).

    In verl and TRL it takes two settings to get both halves of the method.
    """
    given = settings.max_completion_length
    length = (limits.max_completion_length or AUTHORS_LIMIT) if given is None else given
    return Objective(
        name="dr_grpo",
        advantage=GroupRelativeAdvantage(scale=False),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenSum(length),
        regularizers=settings.kl("token_sum", length),
    )


@dataclass(frozen=True)
class SequenceMeanTokenSum(Aggregation):
    """Mean over completions of the sum over their tokens, divided by a constant (Dr. GRPO, arXiv 2503.20783).

    With a constant in place of the completion's length, a long wrong completion is no longer punished less a token.

    Attributes:
        max_completion_length: the constant, in tokens; the authors (and TRL's ``dr_grpo``) take the longest completion
            allowed. verl divides by the padded width instead, so that its loss depends on the padding.
    """

    max_completion_length: int

    def __post_init__(self) -> None:
        if self.max_completion_length < 1:
            raise ConfigError(
                f"max_completion_length must be at least 1, but is {self.max_completion_length}; give the longest "
                "completion allowed."
            )

    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        total = loss.masked_fill(~batch.mask, 0.0).sum()
        return total / (self.max_completion_length * batch.update_totals.num_completions)
