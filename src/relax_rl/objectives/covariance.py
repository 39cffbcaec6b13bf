"""The covariance of log-probability and advantage, and two surrogates that hold back the tokens with most of it.

Source: "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv 2505.22617). Entropy
falls by this covariance (Theorem 1), and a few tokens carry most of it. Eq. 10 estimates it for each token by

    cov_t = (log_probs_t - mean log_probs) (A_t - mean A),    means over the N tokens of the set.

The set is the update, or the micro-batch as in the authors' code; see `relax_rl.objectives.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.selection import (
    SelectionScope,
    choose_tokens,
    largest,
    require_scope,
    require_share,
    selected_share,
)
from relax_rl.objectives.surrogates import ClippedSurrogate, clip_metrics, of_each_token

__all__ = [
    "CovarianceClippedSurrogate",
    "CovarianceKLSurrogate",
    "CovarianceKernel",
    "covariance_columns",
    "token_covariance",
]


def covariance_columns(batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """(P, G, T, 2) log-probability and advantage of each token, no gradient."""
    log_probs = batch.log_probs.detach()
    return torch.stack([log_probs, of_each_token(advantages).expand_as(log_probs)], dim=-1)


def token_covariance(columns: Tensor) -> Tensor:
    """cov_t, (N,) float64, of the columns (N, 2 or more) of a set of tokens: the product of the first two, centred."""
    centred = columns[:, :2].double()
    centred = centred - centred.mean(dim=0, keepdim=True)
    return centred[:, 0] * centred[:, 1]


@dataclass(frozen=True)
class CovarianceKLSurrogate:
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

    is_idle_on_policy = True

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
        return largest(token_covariance(columns), max(1, int(self.k_ratio * len(columns)))).float()

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the share of tokens that are held back."""
        log_ratio = batch.log_ratio
        choice = choose_tokens(self, batch, advantages)
        penalty = torch.where(choice != 0, log_ratio.abs(), 0.0)
        nothing = torch.zeros_like(batch.mask)
        metrics = clip_metrics(nothing, nothing, batch) | selected_share(choice, batch)
        return -torch.exp(log_ratio) * of_each_token(advantages) + self.coefficient * penalty, metrics


@dataclass(frozen=True)
class CovarianceClippedSurrogate:
    """Clip-Cov: PPO's clipped loss, and no gradient for a few tokens drawn from those of large covariance.

    max(1, int(ratio N)) tokens are drawn, uniformly, from those with low < cov < high that PPO's clip has left alone.
    They stay in the denominator. The draw comes from a generator seeded afresh with ``seed`` each time, so the same
    tokens give the same loss, and the global generator is neither read nor moved.

    Attributes:
        clipped: PPO's clip; the authors' scripts set both bounds to 1, which all but switches it off.
        ratio, low, high: 2e-4, 1 and 5 (the authors' scripts for 7B and 32B).
        seed: of the draw.
        scope: over which tokens the share is taken.
    """

    clipped: ClippedSurrogate
    ratio: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    seed: int = 0
    scope: SelectionScope = "update"

    is_idle_on_policy = False

    def __post_init__(self) -> None:
        require_share("ratio", self.ratio)
        require_scope(self.scope)
        if not self.low < self.high:
            raise ConfigError(f"The covariance bounds must have low < high, but are {self.low} and {self.high}.")

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 3): those of `covariance_columns`, and 1 where PPO has clipped the token."""
        ratio, advantage = torch.exp(batch.log_ratio.detach()), of_each_token(advantages)
        bounded = ratio.clamp(1 - self.clipped.clip_low, 1 + self.clipped.clip_high)
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
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(self.seed))
        return columns.new_zeros(len(columns)).index_fill(0, places[order[:count].to(places.device)], 1.0)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares clipped and drawn."""
        loss, metrics = self.clipped(batch, advantages)
        choice = choose_tokens(self, batch, advantages)
        return loss.masked_fill(choice != 0, 0.0), metrics | selected_share(choice, batch)


@dataclass(frozen=True)
class CovarianceKernel:
    """CW-GRPO: a Gaussian kernel takes advantage off the tokens of extreme covariance (arXiv 2605.11538).

        w_t = exp(-cov_t^2 / (2 sigma^2)),    A_t = w_t N / (sum w) A,

    with means, sigma = sqrt(mean cov^2 - (mean cov)^2), N and the sum over the tokens of the group, so that it is the
    same however an update is cut. There is nothing to set. Known from a note on the paper; no code is out, and whether
    its sigma divides by N or N - 1 is not said there.
    """

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        columns = covariance_columns(batch, advantages)
        weights = torch.zeros_like(columns[..., 0])
        for group, mask, weight in zip(columns, batch.mask, weights, strict=True):
            if mask.any():
                weight[mask] = self.weights(group[mask]).to(weight.dtype)
        mean_square = weights[batch.mask].square().mean() if batch.mask.any() else weights.new_tensor(1.0)
        # Kish: what share of the tokens would, weighted alike, count for as much.
        metrics = {"tokens/effective_share": 1 / mean_square.clamp(min=1e-12)}
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), metrics

    def weights(self, columns: Tensor) -> Tensor:
        """(N,) weights of mean 1 for the columns (N, 2) of a group's tokens; all 1 where no covariance differs."""
        covariance = token_covariance(columns)
        variance = covariance.var(correction=0)
        exponent = torch.where(variance > 0, covariance.square() / (2 * variance.clamp(min=1e-300)), 0.0)
        # The common factor of all weights drops out, and taking it off keeps them from all being 0.
        weights = torch.exp(exponent.min() - exponent)
        return weights * len(weights) / weights.sum()
