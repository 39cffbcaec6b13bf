"""From rewards to advantages."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["GroupRelativeAdvantage", "RightOrWrongAdvantage", "centred", "right_and_wrong", "right_share"]


def centred(values: Tensor) -> Tensor:
    """(P, G) values less the mean of their group; NaN (not scored) takes no part in the mean and becomes 0."""
    return (values - values.nanmean(-1, keepdim=True)).nan_to_num(nan=0.0)


def right_and_wrong(rewards: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Masks of the right and of the wrong completions, (P, G) bool each; one that was not scored is neither.

    Raises:
        DataError: a reward is neither 0, 1 nor NaN. It would pass as right or wrong by accident.
    """
    is_right, is_wrong = rewards == 1, rewards == 0
    if not (is_right | is_wrong | rewards.isnan()).all():
        raise DataError(f"{method} takes rewards of 0 and 1; turn others off, or choose another objective.")
    return is_right, is_wrong


def right_share(is_right: Tensor, is_wrong: Tensor) -> Tensor:
    """(P, 1) share of the scored completions of a group that are right, for (P, G) bool each; 0 where none is
    scored."""
    return is_right.sum(-1, keepdim=True) / (is_right | is_wrong).sum(-1, keepdim=True).clamp(min=1)


class RightOrWrongAdvantage(Advantage, ABC):
    """One that takes rewards of 0 and 1 alone, and refuses others by `right_and_wrong`."""

    @property
    def takes_parts(self) -> bool:
        return False


@dataclass(frozen=True)
class GroupRelativeAdvantage(Advantage):
    """How much better a completion is than the others of its prompt.

    A_i = (r_i - mean_g) / (std_g + epsilon), the unbiased standard deviation of the group (GRPO, arXiv 2402.03300).

    Reference codes differ in epsilon only: TRL 1e-4 (our default: it is the loop we run in), verl 1e-6, OpenRLHF 1e-9.
    ``scale=False`` leaves the division out (Dr. GRPO, arXiv 2503.20783).
    A completion with reward NaN (not scored) takes no part in the mean and gets advantage 0.
    """

    epsilon: float = 1e-4
    scale: bool = True

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        is_scored = ~rewards.isnan()
        count = is_scored.sum(-1, keepdim=True)
        advantages = centred(rewards)
        if self.scale:
            # The unbiased variance of the scored completions. What was not scored is 0 and adds nothing to the sum, so
            # the count must leave it out, too.
            variance = advantages.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
            advantages = advantages / (variance.sqrt() + self.epsilon)
        return advantages.detach()
