"""KL-Cov, of "The Entropy Mechanism of RL for Reasoning Language Models" (arXiv 2505.22617).

The entropy falls by the covariance of log-probability and advantage (Theorem 1), and a few tokens carry most of it.
KL-Cov penalises the change of these tokens and has no PPO clip.
"""

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
    largest,
    require_scope,
    require_share,
    selected_share,
    token_covariance,
)
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["CovarianceKLSurrogate", "KLCovSettings", "kl_cov"]


class KLCovSettings(AdvantageSettings):
    """KL-Cov's; see `CovarianceKLSurrogate`. ``scope="micro_batch"`` chooses as the authors' code does."""

    paper: ClassVar[str | None] = "2505.22617"
    off_policy: ClassVar[frozenset[str]] = frozenset({"k_ratio", "coefficient", "scope"})

    k_ratio: float = 2e-3
    coefficient: float = 1.0
    scope: SelectionScope = "update"


def kl_cov(settings: KLCovSettings) -> Objective:
    """loss = mean over tokens of -r A + coefficient |log r| on the tokens of largest covariance."""
    return Objective(
        name="kl_cov",
        advantage=settings.advantage,
        surrogate=CovarianceKLSurrogate(settings.k_ratio, settings.coefficient, settings.scope),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class CovarianceKLSurrogate(TokenSelector, Surrogate):
    """KL-Cov: -r A without any clip, and + coefficient |log r| on the tokens of largest covariance.

    The penalty holds those tokens at the policy that sampled them. |log r| has no gradient where r = 1, so it acts from
    the second update of a rollout on, and before that no token is chosen in training.

    Attributes:
        k_ratio: share of the tokens, at least one; the authors' 2e-3 for 7B, 2e-4 for 32B. (Their flag
            ``k_percent=0.2`` is in percent.)
        coefficient: 1 (paper); verl's configuration file says 0.1.
        scope: over which tokens the share is taken.
    """

    k_ratio: float = 2e-3
    coefficient: float = 1.0
    scope: SelectionScope = "update"

    is_idle_on_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_share("k_ratio", self.k_ratio)
        require_scope(self.scope)
        if self.coefficient < 0:
            raise ConfigError(f"coefficient must not be negative, but is {self.coefficient}; 0 switches it off.")

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 2); see `covariance_columns`."""
        return covariance_columns(batch, advantages)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) 1 for the max(1, int(k_ratio N)) tokens of largest covariance, else 0."""
        # Of log-probability and advantage as they are before the update: the choice has no gradient.
        return largest(token_covariance(columns), max(1, int(self.k_ratio * len(columns)))).float()

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the share of tokens that are held back."""
        log_ratio = batch.log_ratio
        choice = choose_tokens(self, batch, advantages)
        # abs has gradient 0 where the ratio is 1, so on-policy the penalty is silent, whichever tokens are chosen.
        penalty = torch.where(choice != 0, log_ratio.abs(), 0.0)
        nothing = torch.zeros_like(batch.mask)
        metrics = clip_metrics(nothing, nothing, batch) | selected_share(choice, batch)
        return -torch.exp(log_ratio) * of_each_token(advantages) + self.coefficient * penalty, metrics
