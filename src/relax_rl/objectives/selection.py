"""Which tokens of an update a method singles out.

Some methods rank, count or balance tokens against each other: "the 0.2 % of tokens with the largest covariance". Over
which set they do so is part of the method. The published codes take whatever lies in a micro-batch, so that their
result depends on how an update is cut to fit into memory. Here the set is the whole update on all ranks unless
``scope="micro_batch"`` asks for theirs.

The whole update is never in one place, so a selector has two halves: `TokenSelector.columns` reads a few numbers of
each token off a micro-batch, and `TokenSelector.choose` looks at those of all tokens together and gives each its part.
Between them, a trainer gathers the columns of all micro-batches and ranks, and hands out `RolloutBatch.token_choice`.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.batch import RolloutBatch

__all__ = [
    "SelectionScope",
    "TokenSelector",
    "choose_tokens",
    "largest",
    "require_scope",
    "require_share",
    "selected_share",
]

SelectionScope = Literal["update", "micro_batch"]


class TokenSelector(Protocol):
    """A component that singles out tokens by comparing them with the others."""

    @property
    def scope(self) -> SelectionScope: ...

    @property
    def is_idle_on_policy(self) -> bool:
        """Whether the choice has no effect where every ratio is 1, so that an update on-policy can go without one."""
        ...

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, C) what is to be known of each token, no gradient; masked tokens are ignored."""
        ...

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the part of each token, for the columns (N, C) of all tokens that are compared."""
        ...


def choose_tokens(selector: TokenSelector, batch: RolloutBatch, advantages: Tensor) -> Tensor:
    """(P, G, T) each token's part, 0 where masked: the one made over the update, or one over this batch alone.

    Raises:
        DataError: when the choice is to be over the update, of which this batch is only a part, and was not made.
    """
    if selector.scope == "update":
        if batch.token_choice is not None:
            return batch.token_choice
        if batch.totals is not None and batch.totals.num_tokens != float(batch.mask.sum()):
            raise DataError(
                "The method chooses among all tokens of an update, and this batch is a part of one: pass "
                "RolloutBatch.token_choice from Objective.choose, or set scope='micro_batch'."
            )
    columns = selector.columns(batch, advantages)
    choice = columns.new_zeros(batch.mask.shape)
    choice[batch.mask] = selector.choose(columns[batch.mask]).to(choice.dtype)
    return choice


def largest(values: Tensor, count: int) -> Tensor:
    """(N,) bool: the `count` largest of (N,) values; of equal ones the first, on every device."""
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
