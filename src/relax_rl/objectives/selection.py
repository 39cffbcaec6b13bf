"""The tokens of an update that a method singles out.

Some methods rank, count or balance tokens against each other: "the 0.2 % of tokens with the largest covariance". Over
which set they do so is part of the method. The published codes take whatever lies in a micro-batch, so that their
result depends on how an update is cut to fit into memory. Here the set is the whole update on all ranks unless
``scope="micro_batch"`` asks for theirs.

The whole update is never in one place, so a selector has two halves: `TokenSelector.columns` reads a few numbers of
each token off a micro-batch, and `TokenSelector.choose` looks at those of all tokens together and gives each its part.
Between them, a trainer gathers the columns of all micro-batches and ranks, and passes the input `TOKEN_CHOICE`.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.base import SelectionScope, TokenSelector
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import TOKEN_CHOICE
from relax_rl.objectives.surrogates import of_each_token

__all__ = [
    "choose_tokens",
    "covariance_columns",
    "largest",
    "require_scope",
    "require_share",
    "selected_share",
    "token_covariance",
]


def choose_tokens(selector: TokenSelector, batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """(P, G, T) each token's part, 0 where masked: the one made over the update, or one over this batch alone.

    Raises:
        DataError: when the choice is to be over the update, of which this batch is only a part, and was not made.
    """
    if selector.scope == "update":
        choice = batch.extras.get(TOKEN_CHOICE)
        if choice is not None:
            return choice
        # The counts of the update tell a part from the whole. A choice within a part would be another method.
        if batch.totals is not None and batch.totals.num_tokens != float(batch.mask.sum()):
            raise DataError(
                "The method chooses among all tokens of an update, and this batch is a part of one: pass "
                "RolloutBatch.extras[TOKEN_CHOICE] from Objective.choose, or set scope='micro_batch'."
            )
    columns = selector.columns(batch, advantages)
    choice = columns.new_zeros(batch.mask.shape)
    choice[batch.mask] = selector.choose(columns[batch.mask]).to(choice.dtype)
    return choice


def covariance_columns(batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """(P, G, T, 2) log-probability and advantage of each token, no gradient."""
    log_probs = batch.log_probs.detach()
    return torch.stack([log_probs, of_each_token(advantages).expand_as(log_probs)], dim=-1)


def token_covariance(columns: Tensor) -> Tensor:
    """cov_t, (N,) float64, of the columns (N, 2 or more) of a set of tokens: the product of the first two, centred.

    cov_t = (log_probs_t - mean log_probs) (A_t - mean A), means over the N tokens (arXiv 2505.22617, Eq. 10).
    """
    centred = columns[:, :2].double()
    centred = centred - centred.mean(dim=0, keepdim=True)
    return centred[:, 0] * centred[:, 1]


def largest(values: Tensor, count: int) -> Tensor:
    """(N,) bool: the `count` largest of (N,) values; of equal ones the first, on every device."""
    # stable=True: topk leaves the choice among equal values to the device.
    order = torch.sort(values, descending=True, stable=True).indices[:count]
    return torch.zeros_like(values, dtype=torch.bool).index_fill(0, order, True)


def selected_share(choice: Tensor, batch: RolloutBatch) -> dict[str, Tensor]:
    """The metric of how many tokens were singled out."""
    return {"tokens/selected": (choice != 0).sum() / batch.mask.sum().clamp(min=1)}


def require_scope(value: str) -> None:
    """Raises ConfigError for a scope that does not exist."""
    if value not in get_args(SelectionScope):
        raise ConfigError(f"scope is {value!r}; choose one of {', '.join(get_args(SelectionScope))}.")


def require_share(name: str, value: float) -> None:
    """Raises ConfigError for a share outside (0, 1]."""
    if not 0 < value <= 1:
        raise ConfigError(f"{name} is a share of the tokens, above 0 and at most 1, but is {value}.")
