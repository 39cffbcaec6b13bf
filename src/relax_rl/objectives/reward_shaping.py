"""Rewards that are changed before they become advantages: by length, or by where the hidden states of a group lie.

Hidden states are only read, never taught through: none of these has a gradient. A completion whose states are not
finite, or that has no tokens, gets no bonus and is no neighbour of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.geometry import log_det_gains, stable_rank
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.batch import RolloutBatch

__all__ = [
    "EllipticalBonus",
    "EllipticalKind",
    "GradientNovelty",
    "LogDetBonus",
    "OverlongPenalty",
    "RewardShaping",
    "ShapedAdvantage",
    "StableRankReward",
]


class RewardShaping(Protocol):
    @property
    def needs(self) -> frozenset[str]:
        """Which optional tensors it reads."""
        ...

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) rewards, no gradient; NaN where a completion was not scored."""
        ...


@dataclass(frozen=True)
class ShapedAdvantage:
    """The group-relative advantage of shaped rewards. Who is right is still what the verifier said."""

    shaping: RewardShaping
    base: GroupRelativeAdvantage

    @property
    def needs(self) -> frozenset[str]:
        return self.shaping.needs

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        return self.base(replace(batch, rewards=self.shaping(batch)))


def _rewards(batch: RolloutBatch) -> Tensor:
    return batch.rewards if batch.rewards.is_floating_point() else batch.rewards.float()


def _usable_states(batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """States (P, G, T, H) without gradient, 0 where masked, and the mask without completions that are not finite."""
    states = batch.required("hidden_states").detach()
    states = torch.where(batch.mask.unsqueeze(-1), states, 0.0)
    is_finite = states.isfinite().flatten(2).all(-1)
    mask = batch.mask & is_finite.unsqueeze(-1)
    return torch.where(mask.unsqueeze(-1), states, 0.0), mask


def mean_states(batch: RolloutBatch) -> tuple[Tensor, Tensor]:
    """Mean state of each completion (P, G, H), float64, and where there is one, (P, G) bool."""
    states, mask = _usable_states(batch)
    count = mask.sum(-1)
    return states.double().sum(2) / count.clamp(min=1).unsqueeze(-1), count > 0


@dataclass(frozen=True)
class OverlongPenalty:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13): length costs, near the limit.

    reward + factor min((max_tokens - buffer - length) / buffer, 0).

    Attributes:
        max_tokens: the longest completion allowed (20480 in the paper).
        buffer: the last so many tokens cost (4096 in the paper).
        factor: 1 (paper).
    """

    max_tokens: int
    buffer: int
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.buffer <= self.max_tokens:
            raise ConfigError(
                f"overlong_buffer must be at least 1 and at most max_tokens, but they are {self.buffer} and "
                f"{self.max_tokens}; give max_tokens the run's trainer.max_completion_length."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, batch: RolloutBatch) -> Tensor:
        over = (self.max_tokens - self.buffer - batch.lengths_as_sampled) / self.buffer
        return _rewards(batch) + self.factor * over.clamp(max=0.0)


EllipticalKind = Literal["leverage", "leave_one_out"]


@dataclass(frozen=True)
class EllipticalBonus:
    """RepExp: completions that lie where the others of their group do not are worth more (arXiv 2510.11686).

    With f_i the mean state of completion i, less the group's mean, brought to ``dimension`` numbers by a random sparse
    projection, and C = ridge I + sum_j f_j f_j^T,

        leverage:       b_i = f_i^T C^-1 f_i
        leave_one_out:  b_i with C less its own term, which is b / (1 - b) of the leverage,

    reward + coefficient b_i; nothing in a group of which no completion is right.

    As in verl's recipe, but for two things. The states are those of the policy as it is; the recipe runs a frozen copy
    of the initial model. And the projection is drawn once, by ``seed``; the recipe draws a new one at each call.
    The leverages of a group sum to at most G - 1: where the states are large against the ridge, all are near
    (G - 1) / G, and there is nothing to tell completions apart by.

    Attributes:
        coefficient: 0.01; dimension: 32; ridge: 0.01; kind: "leverage" (the recipe's script; its YAML says
            "leave_one_out").
        correct_reward: completions with at least this reward are right.
    """

    coefficient: float = 0.01
    dimension: int = 32
    ridge: float = 0.01
    kind: EllipticalKind = "leverage"
    correct_reward: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(EllipticalKind):
            raise ConfigError(f"kind is {self.kind!r}; choose one of {', '.join(get_args(EllipticalKind))}.")
        if self.coefficient < 0 or self.dimension < 1 or self.ridge <= 0:
            raise ConfigError(
                f"RepExp needs coefficient >= 0, dimension >= 1 and ridge > 0, but they are {self.coefficient}, "
                f"{self.dimension} and {self.ridge}."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden_states"})

    def projection(self, width: int) -> Tensor:
        """(H, dimension) float64, of which one entry in sqrt(H) is not 0 (Li et al., KDD 2006)."""
        generator = torch.Generator().manual_seed(self.seed)
        density = width**-0.5
        shape = (width, self.dimension)
        signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.float64) * 2 - 1
        is_kept = torch.rand(shape, generator=generator, dtype=torch.float64) < density
        return signs * is_kept / (density * self.dimension) ** 0.5

    def bonuses(self, features: Tensor, takes_part: Tensor) -> Tensor:
        """(P, G) b_i for features (P, G, k); 0 for those that take no part."""
        count = takes_part.sum(-1).clamp(min=1)[:, None, None]
        kept = torch.where(takes_part.unsqueeze(-1), features, 0.0)
        centred = torch.where(takes_part.unsqueeze(-1), kept - kept.sum(1, keepdim=True) / count, 0.0)
        identity = torch.eye(centred.shape[-1], dtype=centred.dtype, device=centred.device)
        covariance = self.ridge * identity + centred.mT @ centred
        leverage = (centred * torch.linalg.solve(covariance, centred.mT).mT).sum(-1)
        return leverage if self.kind == "leverage" else leverage / (1 - leverage)

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = _rewards(batch)
        states, has_states = mean_states(batch)
        features = states @ self.projection(states.shape[-1]).to(states.device)
        bonus = self.bonuses(features, has_states & ~rewards.isnan())
        is_solved = (rewards >= self.correct_reward).any(-1, keepdim=True)
        return rewards + self.coefficient * torch.where(is_solved, bonus, 0.0).to(rewards.dtype)


@dataclass(frozen=True)
class GradientNovelty:
    """G2RL: a completion counts for more where its gradient points elsewhere than its group's (arXiv 2512.15687).

    With Phi_i the mean gradient of completion i's log-probabilities in the last hidden state
    (`RolloutBatch.score_features`), r_i = 1 for right and -1 for wrong, S_ij the cosine of Phi_i and Phi_j and w_ij the
    softmax of r_j over j != i,

        nu_i = max(1 - sum_j w_ij S_ij^2, 0),  brought to [0, 1] within the group by its least and greatest,
        reward = clip(r_i (1 + strength r_i nu_i), -3, 3).

    As printed (Eq. 12 and 13) this takes off the penalty of a wrong completion that is new, though the text says that
    it adds to it.

    Attributes:
        strength: the paper's lambda, whose value we did not see: 0.5 is ours.
        correct_reward: completions with at least this reward are right.
    """

    strength: float = 0.5
    correct_reward: float = 1.0

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, but is {self.strength}.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"score_features"})

    def novelty(self, features: Tensor, signs: Tensor, takes_part: Tensor) -> Tensor:
        """(P, G) nu in [0, 1]; 0 for what takes no part and where a group has no two that do."""
        unit = torch.nn.functional.normalize(features.double(), dim=-1)
        similarity = (unit @ unit.mT).square()
        others = takes_part.unsqueeze(1) & ~torch.eye(similarity.shape[-1], dtype=torch.bool, device=features.device)
        scores = signs.double().unsqueeze(1).expand_as(similarity).masked_fill(~others, -1e30)
        weights = scores.softmax(-1).masked_fill(~others, 0.0)
        novelty = (1 - (weights * similarity).sum(-1)).clamp(min=0)
        low = novelty.masked_fill(~takes_part, torch.inf).amin(-1, keepdim=True)
        high = novelty.masked_fill(~takes_part, -torch.inf).amax(-1, keepdim=True)
        spread = high - low
        scaled = torch.where(spread > 1e-9, (novelty - low) / spread.clamp(min=1e-9), 0.0)
        return scaled.masked_fill(~takes_part, 0.0)

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = _rewards(batch)
        features = batch.required("score_features").detach()
        takes_part = ~rewards.isnan() & (batch.lengths > 0) & features.isfinite().all(-1)
        signs = torch.where(rewards >= self.correct_reward, 1.0, -1.0).to(rewards.dtype)
        kept = torch.where(takes_part.unsqueeze(-1), features, 0.0)
        novelty = self.novelty(kept, signs, takes_part).to(rewards.dtype)
        shaped = (signs * (1 + self.strength * signs * novelty)).clamp(-3.0, 3.0)
        return torch.where(rewards.isnan(), rewards, shaped)


@dataclass(frozen=True)
class StableRankReward:
    """SR-GRPO: the stable rank of a completion's states as its reward, without a verifier (arXiv 2512.02807).

    ||H||_F^2 / ||H||_2^2 of the final-layer states (T, H). Known from the abstract and a note.

    Attributes:
        verifier_weight: of the verifier's reward, which is added; 0 (the paper) leaves it out.
    """

    verifier_weight: float = 0.0

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden_states"})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        states, mask = _usable_states(batch)
        rewards = _rewards(batch)
        rank = stable_rank(states, mask).to(rewards.dtype)
        rank = rank.masked_fill(~mask.any(-1), torch.nan)
        return rank if self.verifier_weight == 0 else rank + self.verifier_weight * rewards


@dataclass(frozen=True)
class LogDetBonus:
    """A completion is worth what it adds to the volume that its group's mean states span (after DQO, arXiv 2509.04784).

    reward + coefficient (log det(I + L) - log det(I + L without i)), L the Gram matrix of the group's vectors at length
    one, so the bonus is in [0, log 2]. DQO takes the vectors from an embedding model of its own; here they are the
    policy's mean final-norm states, which lie close together in most models: ``center`` takes the group's mean off
    first.

    Attributes:
        coefficient: 0.1, ours; DQO's was not seen.
        center: off, as in DQO.
    """

    coefficient: float = 0.1
    center: bool = False

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ConfigError(f"coefficient must not be negative, but is {self.coefficient}.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden_states"})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        rewards = _rewards(batch)
        vectors, has_states = mean_states(batch)
        takes_part = has_states & ~rewards.isnan()
        vectors = torch.where(takes_part.unsqueeze(-1), vectors, 0.0)
        if self.center:
            mean = vectors.sum(1, keepdim=True) / takes_part.sum(-1).clamp(min=1)[:, None, None]
            vectors = torch.where(takes_part.unsqueeze(-1), vectors - mean, 0.0)
        return rewards + self.coefficient * log_det_gains(vectors, takes_part).to(rewards.dtype)
