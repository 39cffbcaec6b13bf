"""REPO-R: advantages that grow with how unlikely a token was, at a strength that the entropy sets.

"Entropy-preserving reinforcement learning" (ICLR 2026), known from a note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.updates import UpdateReport

__all__ = ["REPORSettings", "RarityWeights", "repo_r"]


class REPORSettings(AdvantageSettings, RatioSettings):
    """See `RarityWeights`; the strength at the start and its bounds are ours.

    Attributes:
        zeta: strength at the start.
        zeta_min: least strength.
        zeta_max: largest strength.
        adapts: double or halve the strength after each update; False keeps it.
    """

    paper: ClassVar[str | None] = None
    verified: ClassVar[bool] = False

    zeta: float = 0.01
    zeta_min: float = 1e-4
    zeta_max: float = 1.0
    adapts: bool = True


def repo_r(settings: REPORSettings) -> Objective:
    """GRPO by tokens with `RarityWeights`."""
    return Objective(
        name="repo_r",
        advantage=settings.advantage,
        token_weights=RarityWeights(settings.zeta, settings.zeta_min, settings.zeta_max, settings.adapts),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class RarityWeights(TokenWeights):
    """A (1 - zeta lp) for A > 0 and A (1 + zeta lp) for A < 0, lp the log-probability of the token under the policy.

    lp is negative: an unlikely token gains more from a good completion and loses less by a bad one, so that the entropy
    falls less. The second factor ends at 0, or a very unlikely token would gain from a bad completion. After an update
    with less entropy than the first one had, zeta is doubled, otherwise halved, within its bounds.

    Attributes:
        zeta: strength; it moves.
        zeta_min, zeta_max: its bounds.
        adapts: whether it moves.
        first_entropy: entropy of the first update, nats a token; NaN before.
    """

    zeta: float = 0.01
    zeta_min: float = 1e-4
    zeta_max: float = 1.0
    adapts: bool = True
    first_entropy: float = math.nan

    def __post_init__(self) -> None:
        if not 0 <= self.zeta_min <= self.zeta <= self.zeta_max:
            raise ConfigError(
                f"zeta must lie in [zeta_min, zeta_max] with zeta_min >= 0, but is {self.zeta}, and the bounds are "
                f"{self.zeta_min} and {self.zeta_max}."
            )

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_probs = batch.log_probs.detach().masked_fill(~batch.mask, 0.0)
        advantage = advantages.unsqueeze(-1)
        weight = torch.where(advantage > 0, 1 - self.zeta * log_probs, (1 + self.zeta * log_probs).clamp(min=0))
        return advantage * weight, {"tokens/zeta": advantages.new_tensor(self.zeta)}

    def after(self, report: UpdateReport) -> RarityWeights:
        if not self.adapts:
            return self
        if math.isnan(self.first_entropy):
            return replace(self, first_entropy=report.entropy)
        moved = self.zeta * 2 if report.entropy < self.first_entropy else self.zeta / 2
        return replace(self, zeta=min(max(moved, self.zeta_min), self.zeta_max))

    def state(self) -> dict[str, Any]:
        return {"zeta": self.zeta, "first_entropy": None if math.isnan(self.first_entropy) else self.first_entropy}

    def restored(self, state: Mapping[str, Any]) -> RarityWeights:
        first = state["first_entropy"]
        return replace(self, zeta=float(state["zeta"]), first_entropy=math.nan if first is None else float(first))
