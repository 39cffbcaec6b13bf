"""Differential smoothing (arXiv 2511.19942): more entropy among right completions, less among wrong ones.

Known from code of third parties; the strengths are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["DifferentialSmoothingSettings", "SmoothedByLikelihood", "differential_smoothing"]


class DifferentialSmoothingSettings(AdvantageSettings, RatioSettings):
    """See `SmoothedByLikelihood`.

    Attributes:
        right: strength among right completions.
        wrong: strength among wrong ones.
        right_from: completions with at least this reward are right.
        per_token: use mean log-probabilities; False sums over the tokens, and then the strengths depend on the length.
    """

    paper: ClassVar[str | None] = "2511.19942"
    verified: ClassVar[bool] = False

    right: float = 0.1
    wrong: float = 0.1
    right_from: float = 1.0
    per_token: bool = True


def differential_smoothing(settings: DifferentialSmoothingSettings) -> Objective:
    """GRPO's loss with `SmoothedByLikelihood`."""
    return Objective(
        name="differential_smoothing",
        advantage=SmoothedByLikelihood(
            settings.right, settings.wrong, settings.right_from, settings.per_token, settings.epsilon
        ),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class SmoothedByLikelihood(Advantage):
    """A_i - right l_i for a right completion and A_i + wrong l_i for a wrong one, A GRPO's advantage and l_i the
    log-probability of the completion under the policy that sampled it.

    l is negative: an unlikely right completion gains, and an unlikely wrong one loses. The term is not centred, so that
    a group that is all wrong pushes all of its completions down, and one that is all right pushes them up.

    Attributes:
        right, wrong: strengths.
        right_from: smallest reward of a right completion.
        per_token: whether l is a mean over tokens.
        epsilon: see `GroupRelativeAdvantage`.
    """

    reads_log_probs: ClassVar[bool] = True

    right: float = 0.1
    wrong: float = 0.1
    right_from: float = 1.0
    per_token: bool = True
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        if self.right < 0 or self.wrong < 0:
            raise ConfigError(f"right and wrong must not be negative, but are {self.right} and {self.wrong}.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        likelihood = batch.old_log_probs.masked_fill(~batch.mask, 0.0).sum(-1)
        if self.per_token:
            likelihood = likelihood / batch.lengths.clamp(min=1)
        strengths = torch.where(rewards >= self.right_from, -self.right, self.wrong)
        smoothing = (strengths * likelihood).masked_fill(rewards.isnan(), 0.0)
        return GroupRelativeAdvantage(self.epsilon)(batch) + smoothing.detach().to(rewards.dtype)
