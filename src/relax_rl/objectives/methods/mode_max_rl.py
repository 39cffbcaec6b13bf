"""Mode-wise MaxRL: the likelihood of every solution of a problem, so that none is worth losing. Rewards are 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import MODES, Input
from relax_rl.objectives.modes import mode_counts, num_modes
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["ModeMaxRLAdvantage", "ModeMaxRLSettings", "mode_max_rl"]


class ModeMaxRLSettings(RatioSettings):
    """The method is its advantage; the rest is GRPO's. It needs a task that has modes.

    Attributes:
        per_mode: see `ModeMaxRLAdvantage`.
    """

    paper: ClassVar[str | None] = None

    per_mode: bool = False


def mode_max_rl(settings: ModeMaxRLSettings) -> Objective:
    """GRPO's loss with `ModeMaxRLAdvantage`."""
    return Objective(
        name="mode_max_rl",
        advantage=ModeMaxRLAdvantage(settings.per_mode),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class ModeMaxRLAdvantage(RightOrWrongAdvantage):
    """A_i = s_i G / c_z - M, for s_i = 1 right and 0 wrong, c_z right completions of the group in the mode z of
    completion i, and M modes found; 0 in a group without a right one.

    Its objective is the sum of log p_z over the modes z of a problem, each cut at order G - 1 as in MaxRL, without
    bias. All modes equally likely is its fixed point, without a coefficient and without a reference. With a single mode
    it is MaxRL. It also teaches where all completions are right, in two modes of unlike size. It needs groups that are
    large against the number of modes, and a mode that the policy cannot vary for free.

    Attributes:
        per_mode: divide by M, so that each problem weighs as much whatever it has modes: s_i G / (M c_z) - 1. M is
            random, so this is biased.
    """

    per_mode: bool = False

    def inputs(self) -> frozenset[Input]:
        return frozenset({MODES})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient. Raises DataError for rewards other than 0 and 1."""
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "Mode-wise MaxRL")
        counts = mode_counts(batch.required(MODES), is_right)
        found = num_modes(counts, batch.float_rewards.dtype)
        size = (is_right | is_wrong).sum(-1, keepdim=True)
        shares = torch.where(is_right, size / counts.clamp(min=1).to(found.dtype), 0.0)
        advantages = (shares - found).masked_fill(~(is_right | is_wrong), 0.0)
        return advantages / found.clamp(min=1) if self.per_mode else advantages
