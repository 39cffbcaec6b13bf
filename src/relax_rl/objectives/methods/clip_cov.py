"""Clip-Cov (arXiv 2505.22617): no gradient for a few tokens drawn from those of large covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import SelectionScope, Surrogate, TokenSelector
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import (
    choose_tokens,
    covariance_columns,
    require_scope,
    require_share,
    selected_share,
    token_covariance,
)
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.surrogates import ClippedSurrogate, of_each_token

__all__ = ["ClipCovSettings", "CovarianceClippedSurrogate", "clip_cov"]


class ClipCovSettings(AdvantageSettings, RatioSettings):
    """Clip-Cov's; see `CovarianceClippedSurrogate`. ``scope="micro_batch"`` chooses as the authors' code does.

    Their scripts also drop groups that are all right or all wrong (``sampling.max_batches``).

    Attributes:
        ratio: share of the tokens that lose their gradient.
        cov_low, cov_high: bounds on the covariance of the tokens that they are drawn from.
        seed: seed of the draw.
    """

    paper: ClassVar[str | None] = "2505.22617"

    ratio: float = 2e-4
    cov_low: float = 1.0
    cov_high: float = 5.0
    clip_low: float = 1.0
    clip_high: float = 1.0
    seed: int = 0
    scope: SelectionScope = "update"


def clip_cov(settings: ClipCovSettings) -> Objective:
    """The loss of Clip-Cov."""
    return Objective(
        name="clip_cov",
        advantage=settings.advantage,
        surrogate=CovarianceClippedSurrogate(
            settings.surrogate, settings.ratio, settings.cov_low, settings.cov_high, settings.seed, settings.scope
        ),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class CovarianceClippedSurrogate(TokenSelector, Surrogate):
    """Clip-Cov: PPO's clipped loss, and no gradient for a few tokens drawn from those of large covariance.

    max(1, int(ratio N)) tokens are drawn, uniformly, from those with low < cov < high that PPO's clip has left alone.
    They stay in the denominator. The draw comes from a generator seeded afresh with ``seed`` each time, so the same
    tokens give the same loss, and the global generator is neither read nor moved.

    Attributes:
        clipped: PPO's clip; the authors' scripts set both bounds to 1, which all but switches it off.
        ratio, low, high: 2e-4, 1 and 5 (the authors' scripts for 7B and 32B).
        seed: seed of the draw.
        scope: over which tokens the share is taken.
    """

    clipped: ClippedSurrogate
    ratio: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    seed: int = 0
    scope: SelectionScope = "update"

    def __post_init__(self) -> None:
        require_share("ratio", self.ratio)
        require_scope(self.scope)
        if not self.low < self.high:
            raise ConfigError(f"The covariance bounds must have low < high, but are {self.low} and {self.high}.")

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 3): those of `covariance_columns`, and 1 where PPO has clipped the token."""
        ratio, advantage = torch.exp(batch.log_ratio.detach()), of_each_token(advantages)
        bounded = ratio.clamp(1 - self.clipped.clip_low, 1 + self.clipped.clip_high)
        # PPO takes the smaller of the two products: where that is the clipped one, the token has no gradient already.
        is_clipped = (bounded * advantage < ratio * advantage).to(ratio.dtype)
        return torch.cat([covariance_columns(batch, advantages), is_clipped.unsqueeze(-1)], dim=-1)

    def candidates(self, columns: Tensor) -> Tensor:
        """(N,) bool: the tokens that the draw is from."""
        covariance = token_covariance(columns)
        return (columns[:, 2] == 0) & (covariance > self.low) & (covariance < self.high)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) 1 for the tokens drawn, else 0."""
        places = self.candidates(columns).nonzero().squeeze(-1)
        count = max(1, int(self.ratio * len(columns)))
        # A generator of its own, on the CPU: every rank and every device draws the same tokens, and the run's global
        # random numbers stay as they are.
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(self.seed))
        return columns.new_zeros(len(columns)).index_fill(0, places[order[:count].to(places.device)], 1.0)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares clipped and drawn."""
        loss, metrics = self.clipped(batch, advantages)
        choice = choose_tokens(self, batch, advantages)
        # To 0 and not out of the mean: a drawn token stays in the denominator, as in the authors' code.
        return loss.masked_fill(choice != 0, 0.0), metrics | selected_share(choice, batch)
