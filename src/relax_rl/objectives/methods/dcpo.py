"""DCPO (arXiv 2509.02333): a dynamic clip, and advantages smoothed over what a prompt had before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage, Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import PROMPT_KEYS, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, dual_clip, of_each_token

__all__ = ["DCPOSettings", "DynamicClipSurrogate", "PromptMemory", "SmoothedAdvantage", "dcpo"]


class DCPOSettings(AdvantageSettings):
    """DCPO's; see `DynamicClipSurrogate` and `SmoothedAdvantage`.

    Attributes:
        smooth: False leaves the memory of earlier rewards out.
    """

    paper: ClassVar[str | None] = "2509.02333"
    off_policy: ClassVar[frozenset[str]] = frozenset({"clip_low", "clip_high", "high_max", "dual_clip"})

    clip_low: float = 0.16
    clip_high: float = 0.2
    high_max: float = 10.0
    dual_clip: float = 10.0
    smooth: bool = True


def dcpo(settings: DCPOSettings) -> Objective:
    """The paper sums the completions' token means; ours is their mean, which differs by a constant.

    (The released code takes the mean over the tokens of a micro-batch.)
    """
    return Objective(
        name="dcpo",
        advantage=SmoothedAdvantage(settings.epsilon) if settings.smooth else settings.advantage,
        surrogate=DynamicClipSurrogate(settings.clip_low, settings.clip_high, settings.high_max, settings.dual_clip),
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class DynamicClipSurrogate(Surrogate):
    """DCPO's dynamic clip: bounds on the ratio that widen as the token was rarer (arXiv 2509.02333).

    With q the probability under the policy that sampled the token,

        low = 1/2 + sqrt(max(1 - 4 clip_low / q, 0)) / 2,   high = min(1/2 + sqrt(1 + 4 clip_high / q) / 2, high_max),

    -min(r A, clip(r, low, high) A), then `dual_clip`.

    Attributes:
        clip_low, clip_high: 0.16 and 0.2 (paper; the released script leaves 0.2 and sets 0.28).
        high_max, dual_clip: 10 each (the authors' code).
    """

    clip_low: float = 0.16
    clip_high: float = 0.2
    high_max: float = 10.0
    dual_clip: float = 10.0

    def bounds(self, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
        """(P, G, T) lower and upper bound on each token's ratio."""
        inverse = torch.exp(-batch.old_log_probs.masked_fill(~batch.mask, 0.0))
        # For q below 4 clip_low the root has no real value: the bound stays at 1/2.
        low = 0.5 + 0.5 * (1 - 4 * self.clip_low * inverse).clamp(min=0).sqrt()
        high = 0.5 + 0.5 * (1 + 4 * self.clip_high * inverse).sqrt()
        return low, high.clamp(max=self.high_max)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        ratio, advantage = torch.exp(batch.log_ratio), of_each_token(advantages)
        low, high = self.bounds(batch)
        loss = -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
        metrics = clip_metrics((ratio < low) & (advantage < 0), (ratio > high) & (advantage > 0), batch)
        return dual_clip(loss, advantage, self.dual_clip), metrics


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
            # One score has no spread, and would enter the memory as a std of NaN.
            if len(scored) < 2:
                continue
            new_mean, new_std = float(scored.mean()), float(scored.std())
            visits, mean, std = entries.get(key, (0, new_mean, 0.0))
            total = visits + 1
            variance = (visits * std**2 + new_std**2 + visits / total * (new_mean - mean) ** 2) / total
            entries[key] = (total, (visits * mean + new_mean) / total, math.sqrt(variance))
        return PromptMemory(entries)


@dataclass(frozen=True)
class SmoothedAdvantage(Advantage):
    """DCPO's smoothed standardisation: rewards are compared with all that the prompt had, too (arXiv 2509.02333).

    A_new is the usual group-relative advantage, A_tot the same with mean and std of all rewards of the prompt so far,
    these included; both are 0 where their std is. At the i-th visit

        SA_1 = (1 - 1/i) A_new + A_tot / i,    SA_2 = A_new / i + (1 - 1/i) A_tot,

    and A is the one of smaller size (SA_2 of equal ones). A prompt that was not remembered is at its first visit, where
    A = A_new. A completion with reward NaN (not scored) gets 0.

    Attributes:
        epsilon: added to either std (1e-4 as elsewhere here; the authors' code has none).
        memory: rewards so far; `Objective.before_rollout` moves it, before the first update of each rollout batch.
    """

    epsilon: float = 1e-4
    memory: PromptMemory = PromptMemory()

    def inputs(self) -> frozenset[Input]:
        return frozenset({PROMPT_KEYS})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        rewards = batch.float_rewards
        found = batch.extras.get(PROMPT_KEYS)
        keys = [None] * batch.num_prompts if found is None else found.tolist()
        return torch.stack([self._of_group(key, group) for key, group in zip(keys, rewards, strict=True)]).detach()

    def _of_group(self, key: int | None, group: Tensor) -> Tensor:
        scored = group[~group.isnan()]
        if len(scored) < 2:
            return torch.zeros_like(group)
        mean, std = float(scored.mean()), float(scored.std())
        # A prompt that is not remembered is at its first visit, where both estimates are those of this group.
        visits, total_mean, total_std = (1, mean, std) if key is None else self.memory.entries.get(key, (1, mean, std))
        new, total = self._standardised(group, mean, std), self._standardised(group, total_mean, total_std)
        first = (1 - 1 / visits) * new + total / visits
        second = new / visits + (1 - 1 / visits) * total
        return torch.where(first.abs() < second.abs(), first, second).nan_to_num(nan=0.0)

    def _standardised(self, group: Tensor, mean: float, std: float) -> Tensor:
        return (group - mean) / (std + self.epsilon) if std > 0 else torch.zeros_like(group)

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> SmoothedAdvantage:
        return replace(self, memory=self.memory.after(keys, rewards))

    def state(self) -> dict[str, Any]:
        return {"memory": {str(key): list(entry) for key, entry in self.memory.entries.items()}}

    def restored(self, state: Mapping[str, Any]) -> SmoothedAdvantage:
        entries = {int(key): (int(v), float(m), float(s)) for key, (v, m, s) in state["memory"].items()}
        return replace(self, memory=PromptMemory(entries))
