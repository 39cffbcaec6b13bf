"""F-GRPO (arXiv 2602.06717): groups that are mostly right count less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage, RightOrWrongAdvantage, right_and_wrong, right_share
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["FGRPOSettings", "FocalAdvantage", "f_grpo"]


class FGRPOSettings(AdvantageSettings, RatioSettings):
    """GRPO's with one factor a group.

    Attributes:
        gamma: see `FocalAdvantage`; the note has 0.5 to 1.
    """

    paper: ClassVar[str | None] = "2602.06717"

    verified: ClassVar[bool] = False

    gamma: float = 0.5


def f_grpo(settings: FGRPOSettings) -> Objective:
    """GRPO's loss with `FocalAdvantage`."""
    return Objective(
        name="f_grpo",
        advantage=FocalAdvantage(settings.gamma, settings.epsilon),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class FocalAdvantage(RightOrWrongAdvantage):
    """GRPO's advantage times (1 - m)^gamma, m the share of right completions of the group.

    Attributes:
        gamma: 0 is GRPO.
        epsilon: see `GroupRelativeAdvantage`.
    """

    gamma: float = 0.5
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ConfigError(f"gamma must not be negative, but is {self.gamma}.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient. Raises DataError for rewards other than 0 and 1."""
        share = right_share(*right_and_wrong(batch.float_rewards, "F-GRPO"))
        return GroupRelativeAdvantage(self.epsilon)(batch) * (1 - share) ** self.gamma
