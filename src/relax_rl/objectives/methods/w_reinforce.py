"""W-REINFORCE, and with it NSR and PSR (arXiv 2506.01347): fixed weights for right and wrong, no baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["SignedAdvantage", "WReinforceSettings", "w_reinforce"]


class WReinforceSettings(RatioSettings):
    """The authors' W-REINFORCE. NSR is ``right = 0``; PSR is ``right = 1, wrong = 0``.

    Attributes:
        right: advantage of a right completion.
        wrong: advantage of a wrong one, with the sign turned.
    """

    paper: ClassVar[str | None] = "2506.01347"

    right: float = 0.1
    wrong: float = 1.0


def w_reinforce(settings: WReinforceSettings) -> Objective:
    """PPO's loss by tokens with `SignedAdvantage`."""
    return Objective(
        name="w_reinforce",
        advantage=SignedAdvantage(settings.right, settings.wrong),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class SignedAdvantage(RightOrWrongAdvantage):
    """A = right for a right completion and -wrong for a wrong one (authors' code, a5d4e7c). Rewards are 0 or 1.

    Without a baseline a prompt that is hardly ever solved is pushed away from all that it does, and one that is always
    solved goes on learning: the authors start from a policy that is mostly right, and train for few updates.
    """

    right: float = 0.1
    wrong: float = 1.0

    def __post_init__(self) -> None:
        if self.right < 0 or self.wrong < 0:
            raise ConfigError(f"right and wrong must not be negative, but are {self.right} and {self.wrong}.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient. Raises DataError for rewards other than 0 and 1."""
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "W-REINFORCE")
        return self.right * is_right.to(batch.float_rewards.dtype) - self.wrong * is_wrong.to(batch.float_rewards.dtype)
