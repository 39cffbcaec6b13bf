"""The covariance of log-probability and advantage, and two surrogates that hold back the tokens with most of it.

Source: "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv 2505.22617). Entropy
falls by this covariance (Theorem 1), and a few tokens carry most of it. Eq. 10 estimates it for each token by

    cov_t = (log_probs_t - mean log_probs) (A_t - mean A),    means over the N tokens of the batch.

Both surrogates select **over the batch given**, as the authors' code does: its micro-batch. Their losses are shares of
the update's mean like all others, but which tokens are selected depends on how an update is cut into micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.surrogates import ClippedSurrogate, clip_metrics, of_each_token

__all__ = ["CovarianceClippedSurrogate", "CovarianceKLSurrogate", "token_covariance"]


def token_covariance(batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """cov_t, (P, G, T), for advantages (P, G) or (P, G, T); no gradient, 0 where masked."""
    log_probs = batch.log_probs.detach().masked_fill(~batch.mask, 0.0)
    advantage = of_each_token(advantages).expand_as(log_probs).masked_fill(~batch.mask, 0.0)
    num_tokens = batch.mask.sum().clamp(min=1)
    centred = (log_probs - log_probs.sum() / num_tokens) * (advantage - advantage.sum() / num_tokens)
    return centred.masked_fill(~batch.mask, 0.0)


def _require_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ConfigError(f"{name} is a share of the tokens, above 0 and at most 1, but is {value}.")


def _selected_share(is_selected: Tensor, batch: RolloutBatch) -> dict[str, Tensor]:
    return {"tokens/selected": is_selected.sum() / batch.mask.sum().clamp(min=1)}


@dataclass(frozen=True)
class CovarianceKLSurrogate:
    """KL-Cov: -r A without any clip, and + coefficient |log r| on the tokens of largest covariance.

    The penalty holds those tokens at the policy that sampled them. |log r| has no gradient where r = 1, so it acts from
    the second update of a rollout on.

    Attributes:
        k_ratio: share of the tokens, at least one; the authors' 2e-3 for 7B, 2e-4 for 32B. (Their flag
            ``k_percent=0.2`` is in percent.)
        coefficient: 1 (paper); verl's configuration file says 0.1.
    """

    k_ratio: float = 2e-3
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        _require_share("k_ratio", self.k_ratio)
        if self.coefficient < 0:
            raise ConfigError(f"coefficient must not be negative, but is {self.coefficient}; 0 switches it off.")

    def selected(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T) bool: the max(1, int(k_ratio N)) tokens of largest covariance."""
        num_tokens = int(batch.mask.sum())
        covariance = token_covariance(batch, advantages).masked_fill(~batch.mask, -torch.inf).flatten()
        top = covariance.topk(min(max(1, int(self.k_ratio * num_tokens)), num_tokens)).indices
        return torch.zeros_like(covariance, dtype=torch.bool).index_fill(0, top, True).view_as(batch.mask)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the share of tokens that are held back."""
        log_ratio = batch.log_ratio
        is_selected = self.selected(batch, advantages)
        penalty = torch.where(is_selected, log_ratio.abs(), 0.0)
        nothing = torch.zeros_like(batch.mask)
        metrics = clip_metrics(nothing, nothing, batch) | _selected_share(is_selected, batch)
        return -torch.exp(log_ratio) * of_each_token(advantages) + self.coefficient * penalty, metrics


@dataclass(frozen=True)
class CovarianceClippedSurrogate:
    """Clip-Cov: PPO's clipped loss, and no gradient for a few tokens drawn from those of large covariance.

    max(1, int(ratio N)) tokens are drawn, uniformly, from those with low < cov < high that PPO's clip has left alone.
    They stay in the denominator. The draw comes from a generator seeded afresh with ``seed`` in each call, so the same
    batch gives the same loss, and the global generator is neither read nor moved.

    Attributes:
        clipped: PPO's clip; the authors' scripts set both bounds to 1, which all but switches it off.
        ratio, low, high: 2e-4, 1 and 5 (the authors' scripts for 7B and 32B).
        seed: of the draw.
    """

    clipped: ClippedSurrogate
    ratio: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_share("ratio", self.ratio)
        if not self.low < self.high:
            raise ConfigError(f"The covariance bounds must have low < high, but are {self.low} and {self.high}.")

    def candidates(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T) bool: the tokens that the draw is from."""
        covariance = token_covariance(batch, advantages)
        ratio, advantage = torch.exp(batch.log_ratio.detach()), of_each_token(advantages)
        bounded = ratio.clamp(1 - self.clipped.clip_low, 1 + self.clipped.clip_high)
        is_clipped = bounded * advantage < ratio * advantage
        return batch.mask & ~is_clipped & (covariance > self.low) & (covariance < self.high)

    def selected(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T) bool: the tokens drawn."""
        places = self.candidates(batch, advantages).flatten().nonzero().squeeze(-1)
        count = max(1, int(self.ratio * int(batch.mask.sum())))
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(self.seed))
        drawn = places[order[:count].to(places.device)]
        return torch.zeros_like(batch.mask).flatten().index_fill(0, drawn, True).view_as(batch.mask)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares clipped and drawn."""
        loss, metrics = self.clipped(batch, advantages)
        is_selected = self.selected(batch, advantages)
        return loss.masked_fill(is_selected, 0.0), metrics | _selected_share(is_selected, batch)
