"""From a loss for each token to one number: which mean is taken.

Each is a share of the update's mean (see `UpdateTotals`), so the shares of all micro-batches add up to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.base import Aggregation
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["SequenceMeanTokenMean", "SequenceMeanTokenSum", "TokenMean", "sequence_token_mean"]


def sequence_token_mean(values: Tensor, batch: RolloutBatch) -> Tensor:
    """Mean of (P, G, T) values over the tokens of each completion: (P, G); 0 for a completion without tokens.

    Masked values are replaced, not multiplied by zero: a NaN behind the mask must stay there.
    """
    return values.masked_fill(~batch.mask, 0.0).sum(-1) / batch.lengths.clamp(min=1)


@dataclass(frozen=True)
class SequenceMeanTokenMean(Aggregation):
    """Mean over completions of the mean over their tokens (GRPO as published, arXiv 2402.03300)."""

    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        # The completions of the update, not of this micro-batch: only so do the shares of micro-batches add up.
        return sequence_token_mean(loss, batch).sum() / batch.update_totals.num_completions


@dataclass(frozen=True)
class TokenMean(Aggregation):
    """Mean over all tokens of the update (DAPO, arXiv 2503.14476; verl's default)."""

    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        return loss.masked_fill(~batch.mask, 0.0).sum() / max(batch.update_totals.num_tokens, 1.0)


@dataclass(frozen=True)
class SequenceMeanTokenSum(Aggregation):
    """Mean over completions of the sum over their tokens, divided by a constant (Dr. GRPO, arXiv 2503.20783).

    With a constant in place of the completion's length, a long wrong completion is no longer punished less a token.

    Attributes:
        max_completion_length: the constant, in tokens; the authors (and TRL's ``dr_grpo``) take the longest completion
            allowed. verl divides by the padded width instead, so that its loss depends on the padding.
    """

    max_completion_length: int

    def __post_init__(self) -> None:
        if self.max_completion_length < 1:
            raise ConfigError(
                f"max_completion_length must be at least 1, but is {self.max_completion_length}; give the longest "
                "completion allowed."
            )

    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        total = loss.masked_fill(~batch.mask, 0.0).sum()
        return total / (self.max_completion_length * batch.update_totals.num_completions)
