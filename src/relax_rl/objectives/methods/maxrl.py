"""MaxRL (arXiv 2602.02710): the likelihood of a right answer, as far as a group can tell. Rewards are 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong, right_share
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["MaxRLAdvantage", "MaxRLSettings", "maxrl"]


class MaxRLSettings(RatioSettings):
    """The method is its advantage; the rest is GRPO's."""

    paper: ClassVar[str | None] = "2602.02710"

    epsilon: float = 1e-6


def maxrl(settings: MaxRLSettings) -> Objective:
    """GRPO's loss with `MaxRLAdvantage`."""
    return Objective(
        name="maxrl",
        advantage=MaxRLAdvantage(settings.epsilon),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class MaxRLAdvantage(RightOrWrongAdvantage):
    """A_i = (s_i - m) / (m + epsilon), m the share of right completions; 0 where none is (authors' code, c0698eb).

    With G samples its expectation is that of sum_{k < G} (1 - P)^(k-1) grad P, which is the gradient of log P cut at
    order G - 1: a mixture of all pass@k gradients in place of that of P. An advantage is larger than GRPO's, 15 for one
    right of 16 in place of 3.75, so compare the two at steps of the same size.

    Attributes:
        epsilon: 1e-6 (authors' code).
    """

    epsilon: float = 1e-6

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient. Raises DataError for rewards other than 0 and 1."""
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "MaxRL")
        share = right_share(is_right, is_wrong).to(batch.float_rewards.dtype)
        advantages = (is_right.to(share.dtype) - share) / (share + self.epsilon)
        return advantages.masked_fill(~(is_right | is_wrong), 0.0)
