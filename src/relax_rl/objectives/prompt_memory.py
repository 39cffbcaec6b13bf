"""What is remembered of the rewards that a prompt had before, and the advantage that reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.report import UpdateReport

__all__ = ["PromptMemory", "SmoothedAdvantage"]


@dataclass(frozen=True)
class PromptMemory:
    """Mean and spread of all rewards that each prompt has had, and how often it was sampled from.

    Attributes:
        entries: prompt key to (visits, mean, std).
    """

    entries: Mapping[int, tuple[int, float, float]] = field(default_factory=dict)

    def after(self, keys: Tensor, rewards: Tensor) -> PromptMemory:
        """With one more group for each prompt: keys (P,) and rewards (P, G); groups with fewer than two scores are not.

        The group's mean m and unbiased std s join those of the n visits before as in the authors' code: mean' =
        (n mean + m) / (n + 1), var' = (n var + s^2 + n / (n + 1) (m - mean)^2) / (n + 1).
        """
        entries = dict(self.entries)
        for key, group in zip(keys.tolist(), rewards.double().cpu(), strict=True):
            scored = group[~group.isnan()]
            if len(scored) < 2:
                continue
            new_mean, new_std = float(scored.mean()), float(scored.std())
            visits, mean, std = entries.get(key, (0, new_mean, 0.0))
            total = visits + 1
            variance = (visits * std**2 + new_std**2 + visits / total * (new_mean - mean) ** 2) / total
            entries[key] = (total, (visits * mean + new_mean) / total, math.sqrt(variance))
        return PromptMemory(entries)


@dataclass(frozen=True)
class SmoothedAdvantage:
    """DCPO's smoothed standardisation: rewards are compared with all that the prompt had, too (arXiv 2509.02333).

    A_new is the usual group-relative advantage, A_tot the same with mean and std of all rewards of the prompt so far,
    these included; both are 0 where their std is. At the i-th visit

        SA_1 = (1 - 1/i) A_new + A_tot / i,    SA_2 = A_new / i + (1 - 1/i) A_tot,

    and A is the one of smaller size (SA_2 of equal ones). A prompt that was not remembered is at its first visit, where
    A = A_new. A completion with reward NaN (not scored) gets 0.

    Attributes:
        epsilon: added to either std (1e-4 as elsewhere here; the authors' code has none).
        memory: rewards so far; `Objective.remember` moves it, once for each rollout batch, before its first update.
    """

    epsilon: float = 1e-4
    memory: PromptMemory = PromptMemory()

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.rewards if batch.rewards.is_floating_point() else batch.rewards.float()
        keys = [None] * batch.num_prompts if batch.prompt_keys is None else batch.prompt_keys.tolist()
        return torch.stack([self._of_group(key, group) for key, group in zip(keys, rewards, strict=True)]).detach()

    def _of_group(self, key: int | None, group: Tensor) -> Tensor:
        scored = group[~group.isnan()]
        if len(scored) < 2:
            return torch.zeros_like(group)
        mean, std = float(scored.mean()), float(scored.std())
        visits, total_mean, total_std = (1, mean, std) if key is None else self.memory.entries.get(key, (1, mean, std))
        new, total = self._standardised(group, mean, std), self._standardised(group, total_mean, total_std)
        first = (1 - 1 / visits) * new + total / visits
        second = new / visits + (1 - 1 / visits) * total
        return torch.where(first.abs() < second.abs(), first, second).nan_to_num(nan=0.0)

    def _standardised(self, group: Tensor, mean: float, std: float) -> Tensor:
        return (group - mean) / (std + self.epsilon) if std > 0 else torch.zeros_like(group)

    def remember(self, keys: Tensor, rewards: Tensor) -> SmoothedAdvantage:
        """With the rewards (P, G) of a rollout batch's prompts, whose keys are (P,) int64."""
        return replace(self, memory=self.memory.after(keys, rewards))

    def after(self, report: UpdateReport) -> SmoothedAdvantage:
        return self

    def state(self) -> dict[str, Any]:
        return {"memory": {str(key): list(entry) for key, entry in self.memory.entries.items()}}

    def restored(self, state: Mapping[str, Any]) -> SmoothedAdvantage:
        entries = {int(key): (int(v), float(m), float(s)) for key, (v, m, s) in state["memory"].items()}
        return replace(self, memory=PromptMemory(entries))
