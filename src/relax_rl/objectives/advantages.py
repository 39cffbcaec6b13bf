"""From rewards to advantages."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["GroupRelativeAdvantage"]


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
        mean = rewards.nanmean(-1, keepdim=True)
        centred = (rewards - mean).nan_to_num(nan=0.0)
        if self.scale:
            # The unbiased variance of the scored completions. What was not scored is 0 after nan_to_num and adds
            # nothing to the sum, so the count must leave it out, too.
            variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
            centred = centred / (variance.sqrt() + self.epsilon)
        return centred.detach()
