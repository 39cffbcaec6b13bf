"""PKPO (arXiv 2505.15201): the unbiased policy gradient of pass@k. Rewards are 0 or 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import SubsetSettings

__all__ = ["PKPOAdvantage", "PKPOBaseline", "PKPOSettings", "pkpo"]

PKPOBaseline = Literal["subset", "leave_one_out", "none"]


class PKPOSettings(SubsetSettings):
    """The method is its advantage; the rest is GRPO's. The authors vary k; the default is ours.

    Attributes:
        baseline: see `PKPOAdvantage`.
    """

    paper: ClassVar[str | None] = "2505.15201"

    baseline: PKPOBaseline = "subset"


def pkpo(settings: PKPOSettings, limits: RunLimits) -> Objective:
    """GRPO's loss with `PKPOAdvantage`. Raises ConfigError for k above what the run's groups hold."""
    limits.require_subset("k", settings.k, others=int(settings.baseline == "leave_one_out"))
    return Objective(
        name="pkpo",
        advantage=PKPOAdvantage(settings.k, settings.baseline),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class PKPOAdvantage(RightOrWrongAdvantage):
    """Rewards whose policy gradient is that of pass@k without bias (arXiv 2505.15201), with rho(n, c, k) the unbiased
    pass@k of n completions of which c are right:

        u_right = k / n                          u_wrong = (k / n) rho(n - 1, c, k - 1)

    Not `pass_at_k` (arXiv 2508.10751), which divides by the deviation over the subsets.

    Attributes:
        k: size of the subsets.
        baseline: value that is subtracted, all without bias. "none": nothing. "leave_one_out": the mean of u over the
            others, had they been the group (Eq. 29). "subset": of each subset of k what its other k - 1 reach (Eq. 33,
            the authors' choice), which leaves u_right = (k / n) C(n - c, k - 1) / C(n - 1, k - 1) and u_wrong = 0.
    """

    k: int
    baseline: PKPOBaseline = "subset"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, but is {self.k}.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient.

        Raises:
            ConfigError: k is larger than the group, or leaves no other group to take the baseline from.
            DataError: a reward is neither 0, 1 nor NaN.
        """
        most = batch.group_size - (self.baseline == "leave_one_out")
        if self.k > most:
            raise ConfigError(
                f"k is {self.k}, but baseline = {self.baseline} of groups of {batch.group_size} takes at most {most}."
            )
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "PKPO")
        counts = zip(is_right.sum(-1).tolist(), is_wrong.sum(-1).tolist(), strict=True)
        advantages = batch.float_rewards.new_tensor([self._of_group(*count) for count in counts])
        right, wrong = advantages.unsqueeze(1).unbind(-1)
        return torch.where(is_right, right, torch.where(is_wrong, wrong, 0.0))

    def _of_group(self, num_right: int, num_wrong: int) -> tuple[float, float]:
        n, c, k = num_right + num_wrong, num_right, self.k
        if n - (self.baseline == "leave_one_out") < k:  # too few were scored
            return 0.0, 0.0
        if self.baseline == "subset":
            return k / n * math.comb(num_wrong, k - 1) / math.comb(n - 1, k - 1), 0.0
        right, wrong = k / n, k / n * _pass_at_k(n - 1, c, k - 1)
        if self.baseline == "leave_one_out":
            right -= k / (n - 1) * _pass_at_k(n - 1, c - 1, k)
            wrong -= k / (n - 1) * _pass_at_k(n - 1, c, k)
        return right, wrong


def _pass_at_k(n: int, c: int, k: int) -> float:
    return 1 - math.comb(n - c, k) / math.comb(n, k) if 0 <= c <= n else 0.0
