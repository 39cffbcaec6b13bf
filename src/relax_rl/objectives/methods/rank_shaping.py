"""VERL (arXiv 2509.23808): more advantage by the effective rank of the hidden states and its growth.

Not the library verl, whose name differs by its capitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.geometry import effective_rank_growth
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.updates import UpdateReport

__all__ = ["RankShaping", "RankShapingSettings", "rank_shaping"]


_FIGURES = ("latent/effective_rank", "latent/rank_velocity", "latent/rank_acceleration")


class RankShapingSettings(AdvantageSettings, RatioSettings):
    """See `RankShaping`. The authors' script also has a KL and an entropy bonus of 0.001 each.

    Attributes:
        stride: tokens between two measurements of the rank.
        max_tokens: number of last tokens that are read.
        gain: see `RankShaping`.
        kappa: bound on the bonus, as a part of the advantage: |A| / kappa.
        smoothing: share of the newest update in the running mean.
    """

    paper: ClassVar[str | None] = "2509.23808"

    stride: int = 40
    max_tokens: int = 512
    gain: float = 2.0
    kappa: float = 2.0
    smoothing: float = 0.3


def rank_shaping(settings: RankShapingSettings) -> Objective:
    """GRPO by tokens with `RankShaping`."""
    return Objective(
        name="rank_shaping",
        advantage=settings.advantage,
        token_weights=RankShaping(
            settings.stride, settings.max_tokens, settings.gain, settings.kappa, settings.smoothing
        ),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class RankShaping(TokenWeights):
    """VERL: a bonus from the effective rank of the hidden states and its growth (arXiv 2509.23808; authors' code).

    ER, ERV and ERA are the effective rank of a completion's states, its velocity and its acceleration
    (`koopman.geometry.effective_rank_growth`). Each m is compared with a running mean mu_m of the updates before,

        x_m = clip((m - mu_m) / (|mu_m| + 1e-8), -5, 5),    g = sigmoid(gain x_ERA),
        Phi = g tanh(x_ER) + (1 - g) tanh(x_ERV),           A' = A + min(max(Phi, 0), |A| / kappa).

    So no advantage falls or changes its sign, and A = 0 stays 0. After each update mu_m = (1 - smoothing) mu_m +
    smoothing (the update's mean of m), from 0; the first update, which has nothing to compare with, has no bonus.

    The bonus is that of the whole completion, as the paper reads. The released code writes it on the last token alone,
    its mu lags by one more update, and its published script switches the bonus off altogether. The states are detached.

    Attributes:
        stride: 40 tokens between two measurements of the rank; max_tokens: 512, the last so many are looked at.
        gain: 2 (the authors' script); kappa: 2; smoothing: 0.3.
        baseline: mu of ER, ERV and ERA, None before the first update; it moves.
    """

    stride: int = 40
    max_tokens: int = 512
    gain: float = 2.0
    kappa: float = 2.0
    smoothing: float = 0.3
    baseline: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.kappa <= 1 or not 0 < self.smoothing <= 1:
            raise ConfigError(
                f"The rank bonus needs kappa > 1 and 0 < smoothing <= 1, but they are {self.kappa} and "
                f"{self.smoothing}."
            )

    def inputs(self) -> frozenset[Input]:
        return frozenset({HIDDEN_STATES})

    @torch.no_grad()
    def figures(self, batch: RolloutBatch) -> tuple[Tensor, Tensor]:
        """(3, P, G) ER, ERV and ERA, float64, and (P, G) bool where they are known."""
        states = torch.where(batch.mask.unsqueeze(-1), batch.required(HIDDEN_STATES).detach(), 0.0)
        is_known = states.isfinite().flatten(2).all(-1) & (batch.lengths > 0)
        mask = batch.mask & is_known.unsqueeze(-1)
        growth = effective_rank_growth(
            torch.where(mask.unsqueeze(-1), states, 0.0), mask, stride=self.stride, max_tokens=self.max_tokens
        )
        return torch.stack([growth.rank, growth.velocity, growth.acceleration]), is_known

    def bonus(self, figures: Tensor) -> Tensor:
        """(P, G) Phi for the figures (3, P, G)."""
        # The first update has nothing to compare with. A baseline of 0 would make every rank an outlier.
        if self.baseline is None:
            return torch.zeros_like(figures[0])
        baseline = torch.tensor(self.baseline, dtype=figures.dtype, device=figures.device).view(3, 1, 1)
        rank, velocity, acceleration = ((figures - baseline) / (baseline.abs() + 1e-8)).clamp(-5, 5)
        gate = torch.sigmoid(self.gain * acceleration)
        return gate * torch.tanh(rank) + (1 - gate) * torch.tanh(velocity)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        figures, is_known = self.figures(batch)
        bonus = torch.where(is_known, self.bonus(figures).clamp(min=0), 0.0).to(advantages.dtype)
        # At most |A| / kappa with kappa > 1: no advantage changes its sign, and A = 0 stays 0.
        shaped = advantages + torch.minimum(bonus, advantages.abs() / self.kappa)
        count = is_known.sum().clamp(min=1)
        means = {
            name: values.masked_fill(~is_known, 0.0).sum() / count
            for name, values in zip(_FIGURES, figures, strict=True)
        }
        return shaped.unsqueeze(-1).expand(batch.log_probs.shape), means | {"latent/rank_bonus": bonus.mean()}

    def after(self, report: UpdateReport) -> RankShaping:
        baseline = self.baseline or (0.0, 0.0, 0.0)
        found = (report.metrics.get(name, mu) for name, mu in zip(_FIGURES, baseline, strict=True))
        moved = [(1 - self.smoothing) * mu + self.smoothing * m for mu, m in zip(baseline, found, strict=True)]
        return replace(self, baseline=(moved[0], moved[1], moved[2]))

    def state(self) -> dict[str, Any]:
        return {"baseline": None if self.baseline is None else list(self.baseline)}

    def restored(self, state: Mapping[str, Any]) -> RankShaping:
        if state["baseline"] is None:
            return replace(self, baseline=None)
        first, second, third = map(float, state["baseline"])
        return replace(self, baseline=(first, second, third))
