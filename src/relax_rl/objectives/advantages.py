"""From rewards to advantages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["BestCompletionAdvantage", "GroupRelativeAdvantage", "PassAtKAdvantage"]


@dataclass(frozen=True)
class GroupRelativeAdvantage:
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
        rewards = batch.rewards if batch.rewards.is_floating_point() else batch.rewards.float()
        is_scored = ~rewards.isnan()
        count = is_scored.sum(-1, keepdim=True)
        mean = rewards.nanmean(-1, keepdim=True)
        centred = (rewards - mean).nan_to_num(nan=0.0)
        if self.scale:
            variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
            centred = centred / (variance.sqrt() + self.epsilon)
        return centred.detach()


@dataclass(frozen=True)
class PassAtKAdvantage:
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
        rewards = batch.rewards if batch.rewards.is_floating_point() else batch.rewards.float()
        if self.k > batch.group_size:
            raise ConfigError(f"k is {self.k}, but a group has {batch.group_size} completions; take a smaller k.")
        is_right, is_wrong = rewards == 1, rewards == 0
        if not (is_right | is_wrong | rewards.isnan()).all():
            raise DataError("Pass@k training takes rewards of 0 and 1; turn others off, or choose another objective.")
        advantages = [self._of_group(*counts) for counts in zip(_counts(is_right), _counts(is_wrong), strict=True)]
        right, wrong = torch.tensor(advantages, dtype=rewards.dtype, device=rewards.device).unsqueeze(1).unbind(-1)
        return torch.where(is_right, right, torch.where(is_wrong, wrong, 0.0))

    def _of_group(self, num_right: int, num_wrong: int) -> tuple[float, float]:
        n, k = num_right + num_wrong, self.k
        if num_wrong < k or num_right == 0:
            return 0.0, 0.0
        failure = math.comb(num_wrong, k) / math.comb(n, k)
        scale = math.sqrt(failure * (1 - failure)) + self.epsilon
        return failure / scale, (failure - math.comb(num_wrong - 1, k - 1) / math.comb(n - 1, k - 1)) / scale


@dataclass(frozen=True)
class BestCompletionAdvantage:
    """Only the best completion of a group learns: A = (r_max - r_second) / (std + epsilon) (arXiv 2503.19595; verl).

    The advantage of the others is 0, and so is that of the best where it shares its place. The std is the unbiased one
    of the scored completions.

    Attributes:
        epsilon: 1e-6 (verl's ``grpo_passk``).
    """

    epsilon: float = 1e-6

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.rewards if batch.rewards.is_floating_point() else batch.rewards.float()
        is_scored = ~rewards.isnan()
        count = is_scored.sum(-1, keepdim=True)
        centred = (rewards - rewards.nanmean(-1, keepdim=True)).nan_to_num(nan=0.0)
        std = (centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        best, place = rewards.masked_fill(~is_scored, -torch.inf).topk(min(2, rewards.shape[-1]), dim=-1)
        lead = torch.where(count > 1, best[:, :1] - best[:, -1:], 0.0)
        return torch.zeros_like(rewards).scatter(-1, place[:, :1], lead / (std + self.epsilon)).detach()


def _counts(marks: Tensor) -> list[int]:
    return marks.sum(-1).tolist()
