"""Pass@k training with the analytical advantage (arXiv 2508.10751). Rewards are 0 or 1.

Not verl's ``grpo_passk`` (arXiv 2503.19595), which rewards the best completion alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["PassAtKAdvantage", "PassAtKSettings", "pass_at_k"]


class PassAtKSettings(RatioSettings):
    """The method is its advantage; the rest is GRPO's. The authors vary k; 4 is our choice, for groups of 8.

    Attributes:
        k: see `PassAtKAdvantage`.
        epsilon: the authors' code.
    """

    paper: ClassVar[str | None] = "2508.10751"

    k: int = 4
    epsilon: float = 1e-6


def pass_at_k(settings: PassAtKSettings, limits: RunLimits) -> Objective:
    """GRPO's loss with `PassAtKAdvantage`. Raises ConfigError for k above what the run's groups hold."""
    limits.require_subset("k", settings.k)
    return Objective(
        name="pass_at_k",
        advantage=PassAtKAdvantage(settings.k, settings.epsilon),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class PassAtKAdvantage(RightOrWrongAdvantage):
    """The advantage of pass@k as the reward, in closed form (arXiv 2508.10751).

    Of n completions c are right. The reward of a subset of k is 1 if it holds a right one. Over all subsets its mean is
    rho = 1 - C(n-c, k) / C(n, k), its std sigma = sqrt(rho (1 - rho)). Averaged over those that a completion is in,

        A_right = (1 - rho) / (sigma + epsilon)
        A_wrong = (1 - rho - C(n-c-1, k-1) / C(n-1, k-1)) / (sigma + epsilon)

    They sum to 0. With fewer than k wrong ones every subset succeeds, and all advantages are 0. A completion with
    reward NaN (not scored) is none of the n and gets 0.

    Attributes:
        k: size of the subsets.
        epsilon: 1e-6 (the authors' code).
    """

    k: int
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, but is {self.k}.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient.

        Raises:
            ConfigError: when k is larger than the group.
            DataError: when a reward is neither 0, 1 nor NaN. (The authors' code would let it pass as an advantage.)
        """
        rewards = batch.float_rewards
        if self.k > batch.group_size:
            raise ConfigError(f"k is {self.k}, but a group has {batch.group_size} completions; take a smaller k.")
        is_right, is_wrong = right_and_wrong(rewards, "Pass@k training")
        advantages = [self._of_group(*counts) for counts in zip(_counts(is_right), _counts(is_wrong), strict=True)]
        right, wrong = torch.tensor(advantages, dtype=rewards.dtype, device=rewards.device).unsqueeze(1).unbind(-1)
        return torch.where(is_right, right, torch.where(is_wrong, wrong, 0.0))

    def _of_group(self, num_right: int, num_wrong: int) -> tuple[float, float]:
        n, k = num_right + num_wrong, self.k
        # With fewer than k wrong ones every subset holds a right one, and with no right one none does: nothing to
        # learn.
        if num_wrong < k or num_right == 0:
            return 0.0, 0.0
        failure = math.comb(num_wrong, k) / math.comb(n, k)
        scale = math.sqrt(failure * (1 - failure)) + self.epsilon
        return failure / scale, (failure - math.comb(num_wrong - 1, k - 1) / math.comb(n - 1, k - 1)) / scale


def _counts(marks: Tensor) -> list[int]:
    return marks.sum(-1).tolist()
