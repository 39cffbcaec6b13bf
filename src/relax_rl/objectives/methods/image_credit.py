"""Our method: right completions of a group that rest on the image are worth more.

PAPO's term is a divergence in the loss, which a policy can raise without seeing better; its authors found that and
bound it by entropy terms. Here dependence is part of the reward: it is bounded, it ranks right completions only, and no
gradient passes through what the masked image says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input, MaskedLogProbs
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage
from relax_rl.objectives.sight import image_information, require_mask

__all__ = ["ImageCreditSettings", "ImageRank", "image_credit"]


class ImageCreditSettings(RatioSettings):
    """See `ImageRank`.

    Attributes:
        coefficient: reward of the right completion that rests most on the image, beside its own.
        right_from: completions with at least this reward are right.
        mask_share: share of an image's squares that are black.
        mask_patch: side of a square in pixels.
    """

    coefficient: float = 0.5
    right_from: float = 1.0
    mask_share: float = 0.6
    mask_patch: int = 14


def image_credit(settings: ImageCreditSettings) -> Objective:
    """Dr. GRPO's advantage of `ImageRank` in GRPO's loss. Divided by the std, the bonus of a group that is all right
    would have size 1."""
    masked = MaskedLogProbs(share=settings.mask_share, patch=settings.mask_patch)
    reward = ImageRank(settings.coefficient, settings.right_from, masked)
    return Objective(
        name="image_credit",
        advantage=ShapedAdvantage(reward, GroupRelativeAdvantage(scale=False)),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class ImageRank(RewardShaping):
    """R_i + coefficient x (share of the group's other right completions that rest less on the image), for right ones.

    How much a completion rests on its image is `image_information`: nats a token by which the true image makes it more
    likely than a masked one. Completions that rest on it equally count half. One right completion gets no bonus.

    Attributes:
        coefficient: largest bonus.
        right_from: smallest reward of a right completion.
        masked: part of the image that is masked.
    """

    coefficient: float
    right_from: float
    masked: MaskedLogProbs

    def __post_init__(self) -> None:
        require_mask(self.masked.share, self.masked.patch)
        if self.coefficient < 0:
            raise ConfigError(
                f"coefficient must not be negative, but is {self.coefficient}; 0 is Dr. GRPO's advantage."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.masked})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) rewards, no gradient; NaN where a completion was not scored."""
        rewards = batch.float_rewards
        information = image_information(batch, self.masked)
        is_right = rewards >= self.right_from
        # (P, G, G): whether the second rests less on its image than the first, and half where they are equal.
        less = torch.sign(information.unsqueeze(-1) - information.unsqueeze(-2)) * 0.5 + 0.5
        others = is_right.unsqueeze(-2) & ~torch.eye(rewards.shape[-1], dtype=torch.bool, device=rewards.device)
        rank = (less * others).sum(-1) / others.sum(-1).clamp(min=1)
        return torch.where(is_right, rewards + self.coefficient * rank, rewards).to(rewards.dtype)
