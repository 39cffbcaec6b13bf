"""Terms that keep the policy's entropy up, added to the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.aggregation import sequence_token_mean
from relax_rl.objectives.base import Measurements
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["CorrectEntropy", "EntropyBonus", "require_entropy"]


def require_entropy(batch: RolloutBatch) -> Tensor:
    """(P, G, T) the batch's entropy, 0 where masked.

    Raises:
        DataError: when the batch carries none.
    """
    if batch.entropy is None:
        raise DataError("The objective needs the entropy of each token, but RolloutBatch.entropy is None.")
    return batch.entropy.masked_fill(~batch.mask, 0.0)


def _require_coefficient(value: float) -> None:
    if value < 0:
        raise ConfigError(f"The entropy coefficient must not be negative, but is {value}; 0 switches the term off.")


@dataclass(frozen=True)
class EntropyBonus:
    """-coefficient times the mean entropy over all tokens of the update (verl's ``entropy_coeff`` and token mean).

    Attributes:
        coefficient: fixed. The Entropy Mechanism paper (arXiv 2505.22617, section 4.1) saw no effect at 1e-4 and 1e-3,
            a stable entropy without gain at 5e-3, and an explosion at 1e-2.
    """

    coefficient: float = 5e-3

    def __post_init__(self) -> None:
        _require_coefficient(self.coefficient)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        entropy = require_entropy(batch)
        # A bonus on a detached entropy would change the number that is logged and nothing else.
        if torch.is_grad_enabled() and batch.log_probs.requires_grad and not entropy.requires_grad:
            raise DataError("An entropy bonus needs an entropy with gradient, but RolloutBatch.entropy is detached.")
        share = entropy.sum() / max(batch.update_totals.num_tokens, 1.0)
        return -self.coefficient * share, {}


@dataclass(frozen=True)
class CorrectEntropy:
    """R1-zero-Div's diversity term (arXiv 2505.23433, section 4), on correct completions only:

        L = coefficient (1/B) sum_i 1[R_i = 1] (1/T_i) sum_t r_t log_probs_t.

    r log_probs estimates the negative entropy from the sampled token. The gradient runs through both factors:
    r (1 + log_probs) for each token's log-probability. So at r = 1 tokens above 1/e get less likely, others more.

    Attributes:
        coefficient: 0.01 (paper).
        correct_reward: completions with at least this reward are correct.
    """

    coefficient: float = 0.01
    correct_reward: float = 1.0

    def __post_init__(self) -> None:
        _require_coefficient(self.coefficient)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        per_completion = sequence_token_mean(torch.exp(batch.log_ratio) * log_probs, batch)
        is_correct = batch.rewards >= self.correct_reward
        share = per_completion.masked_fill(~is_correct, 0.0).sum() / batch.update_totals.num_completions
        return self.coefficient * share, {}
