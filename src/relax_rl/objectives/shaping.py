"""Rewards that are changed before they become advantages, and what such changes read off the hidden states of a group.

Hidden states are only read, never taught through: none of these has a gradient. A completion whose states are not
finite, or that has no tokens, gets no bonus and is no neighbour of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.base import Advantage, Component
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, Input

__all__ = ["RewardShaping", "ShapedAdvantage", "mean_states", "usable_states"]


class RewardShaping(Component, ABC):
    """From a verifier's rewards to those that a method trains on."""

    @abstractmethod
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) rewards, no gradient; NaN where a completion was not scored."""


@dataclass(frozen=True)
class ShapedAdvantage(Advantage):
    """The group-relative advantage of shaped rewards. Which completions are right is still the verifier's verdict."""

    shaping: RewardShaping
    base: GroupRelativeAdvantage

    def inputs(self) -> frozenset[Input]:
        return self.shaping.inputs() | self.base.inputs()

    @property
    def reference_coefficient(self) -> float:
        return self.shaping.reference_coefficient

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        return self.base(replace(batch, rewards=self.shaping(batch)))


def usable_states(batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """States (P, G, T, H) without gradient, 0 where masked, and the mask without completions that are not finite."""
    states = batch.required(HIDDEN_STATES).detach()
    # Before the check for finite states: what stands behind the mask says nothing of the completion.
    states = torch.where(batch.mask.unsqueeze(-1), states, 0.0)
    is_finite = states.isfinite().flatten(2).all(-1)
    mask = batch.mask & is_finite.unsqueeze(-1)
    return torch.where(mask.unsqueeze(-1), states, 0.0), mask


def mean_states(batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """Mean state of each completion (P, G, H), float64, and where there is one, (P, G) bool."""
    states, mask = usable_states(batch)
    count = mask.sum(-1)
    return states.double().sum(2) / count.clamp(min=1).unsqueeze(-1), count > 0
