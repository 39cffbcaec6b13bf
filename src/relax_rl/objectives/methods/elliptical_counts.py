"""Elliptical counts: exploration by how new a completion's states are to its prompt, over the whole run.

LinUCB's bonus on hidden states. `rep_exp` compares the completions of a group with each other, forgets them after it,
and acts only where one is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, PROMPT_KEYS, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import mean_states

__all__ = ["EllipticalCountsSettings", "EllipticalMemory", "EllipticalNovelty", "elliptical_counts"]

_HALF = 2**32


class EllipticalCountsSettings(AdvantageSettings, RatioSettings):
    """See `EllipticalNovelty`; the numbers are ours.

    Attributes:
        coefficient: strength of the bonus.
        baseline: value that is subtracted from each bonus.
        dimension: size of the random projection of the mean states. A checkpoint keeps its square for each prompt.
        ridge: start of the memory; 1 keeps the bonus within [0, 1].
        seed: seed of the projection.
    """

    paper: ClassVar[str | None] = None

    coefficient: float = 0.1
    baseline: float = 0.5
    dimension: int = 8
    ridge: float = 1.0
    seed: int = 0


def elliptical_counts(settings: EllipticalCountsSettings) -> Objective:
    """GRPO's loss with `EllipticalNovelty`."""
    return Objective(
        name="elliptical_counts",
        advantage=EllipticalNovelty(
            settings.coefficient,
            settings.baseline,
            settings.dimension,
            settings.seed,
            settings.epsilon,
            EllipticalMemory(settings.ridge),
        ),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class EllipticalMemory:
    """The directions that each prompt's completions have shown: L = ridge I + sum of f f^T over them.

    b(f) = sqrt(f^T L^-1 f). For features of which one entry is 1 and the others are 0 it is 1 / sqrt(n + ridge), n how
    often that entry was seen: a count.

    Attributes:
        ridge: above 0.
        sums: prompt key to the rows of sum f f^T.
    """

    ridge: float = 1.0
    sums: Mapping[int, Sequence[Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ConfigError(f"ridge must be above 0, but is {self.ridge}.")

    def bonuses(self, keys: Tensor, features: Tensor) -> Tensor:
        """(P, G) b of features (P, G, k) float64 of prompts with the keys (P,)."""
        identity = torch.eye(features.shape[-1], dtype=torch.float64)
        known = [
            torch.tensor(self.sums[key], dtype=torch.float64) if key in self.sums else 0.0 for key in keys.tolist()
        ]
        precision = torch.stack([self.ridge * identity + sums for sums in known]).to(features.device)
        return (features * torch.linalg.solve(precision, features.mT).mT).sum(-1).clamp(min=0).sqrt()

    def after(self, keys: Tensor, features: Tensor) -> EllipticalMemory:
        """With one more completion for each key of (N,) and features (N, k)."""
        sums = dict(self.sums)
        features = features.double().cpu()
        for key in set(keys.tolist()):
            of_prompt = features[(keys == key).cpu()]
            added = of_prompt.mT @ of_prompt
            before = torch.tensor(sums[key], dtype=torch.float64) if key in sums else 0.0
            sums[key] = (before + added).tolist()
        return replace(self, sums=sums)


@dataclass(frozen=True)
class EllipticalNovelty(Advantage):
    """GRPO's advantage plus coefficient (b_i - baseline), b_i how new the mean state of completion i is to its prompt.

    The feature is the mean state, brought to ``dimension`` numbers by a random projection and to length 1. It is
    compared with those of the prompt's completions in all earlier rollout batches (`EllipticalMemory`). The bonus acts
    in every group, those without a right completion included, where no function of the rewards can. A completion
    without a score, or whose states are not finite, gets none.

    Attributes:
        coefficient: strength.
        baseline: value that is subtracted from b.
        dimension: dimension of the features.
        seed: seed of the projection.
        epsilon: see `GroupRelativeAdvantage`.
        memory: memory of the run so far; `Objective.after_rollout` moves it.
    """

    coefficient: float = 0.1
    baseline: float = 0.5
    dimension: int = 8
    seed: int = 0
    epsilon: float = 1e-4
    memory: EllipticalMemory = EllipticalMemory()

    def __post_init__(self) -> None:
        if self.coefficient < 0 or self.dimension < 1:
            raise ConfigError(
                f"Elliptical counts need coefficient >= 0 and dimension >= 1, but they are {self.coefficient} and "
                f"{self.dimension}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({HIDDEN_STATES, PROMPT_KEYS})

    @torch.no_grad()
    def features(self, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
        """(P, G, dimension) float64 of length 1, and where there are any, (P, G) bool."""
        states, has_states = mean_states(batch)
        generator = torch.Generator().manual_seed(self.seed)
        projection = torch.randn(states.shape[-1], self.dimension, generator=generator, dtype=torch.float64)
        features = states @ projection.to(states.device)
        norm = features.norm(dim=-1, keepdim=True)
        return features / norm.clamp(min=1e-12), has_states & (norm.squeeze(-1) > 0)

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        features, has_features = self.features(batch)
        novelty = self.memory.bonuses(batch.required(PROMPT_KEYS), features) - self.baseline
        novelty = torch.where(has_features & ~rewards.isnan(), novelty, 0.0).to(rewards.dtype)
        return GroupRelativeAdvantage(self.epsilon)(batch) + self.coefficient * novelty

    def to_remember(self, batch: RolloutBatch) -> Tensor:
        """(N, 2 + dimension): both halves of the prompt's key, which a float64 would round, and the features."""
        features, has_features = self.features(batch)
        keys = batch.required(PROMPT_KEYS).unsqueeze(-1).expand(has_features.shape)
        halves = torch.stack([keys // _HALF, keys % _HALF], dim=-1).to(features.dtype)
        return torch.cat([halves, features], dim=-1)[has_features]

    def after_rollout(self, rows: Tensor) -> EllipticalNovelty:
        keys = rows[:, 0].long() * _HALF + rows[:, 1].long()
        return replace(self, memory=self.memory.after(keys, rows[:, 2:]))

    def state(self) -> dict[str, Any]:
        return {"sums": {str(key): [list(row) for row in rows] for key, rows in self.memory.sums.items()}}

    def restored(self, state: Mapping[str, Any]) -> EllipticalNovelty:
        sums = {int(key): [[float(value) for value in row] for row in rows] for key, rows in state["sums"].items()}
        return replace(self, memory=replace(self.memory, sums=sums))
