"""Dr. GRPO (arXiv 2503.20783): no division by the group's std, none by the completion's length."""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenSum
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["DrGRPOSettings", "dr_grpo"]


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
