"""What a component of an objective is, and what an objective gives back.

A method is a composition: advantage -> token weights (if it has any) -> surrogate -> aggregation, plus regularizers. A
method that tells the completions of a group apart by their hidden states has a signal, which all of these may read.
Each component is a small frozen dataclass with a pure ``__call__``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.probe import GroupDispersion, LiftedStates

__all__ = [
    "Advantage",
    "Aggregation",
    "GroupSignal",
    "Measurements",
    "ObjectiveOutput",
    "Regularizer",
    "SignalReading",
    "Surrogate",
    "TokenWeights",
]


@dataclass(frozen=True)
class Measurements:
    """What regularizers share about a batch, each computed once.

    Attributes:
        advantages: (P, G), no gradient.
        dispersion: None for methods that do not look at hidden states.
        xi: the bound on the dispersion; None likewise.
    """

    advantages: Tensor
    dispersion: GroupDispersion | None = None
    xi: float | None = None


@dataclass(frozen=True)
class ObjectiveOutput:
    """What an objective says of a batch.

    Attributes:
        loss: scalar to minimise, with gradient.
        metrics: scalars to log.
        per_completion: (P, G) values to record with the completions: the advantage, and the dispersion and the signal
            (NaN where they are not defined) if the method measures them.
        to_remember: (N, ...) what the method wants to know later of N of the completions
            (`Objective.remember_completions`).
    """

    loss: Tensor
    metrics: dict[str, float]
    per_completion: dict[str, Tensor]
    to_remember: Tensor | None = None


@dataclass(frozen=True)
class SignalReading:
    """What a signal says of a batch.

    Attributes:
        values: (P, G) float64, with gradient through the lifted states; NaN, without, where it says nothing.
        to_remember: as in `ObjectiveOutput`.
    """

    values: Tensor
    to_remember: Tensor | None = None


class GroupSignal(Protocol):
    """A number for each completion of a group, read off the lifted states of them all."""

    @property
    def name(self) -> str:
        """What it is logged (``latent/NAME``) and recorded as."""
        ...

    def __call__(self, lifted: LiftedStates, batch: RolloutBatch) -> SignalReading:
        """What it says of the batch's completions, from their lifted states."""
        ...


class Advantage(Protocol):
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages."""
        ...


class TokenWeights(Protocol):
    """Hands a completion's advantage out to its tokens.

    A weight w >= 0 is given as an advantage w A: every surrogate here is linear in the size of the advantage.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Which optional tensors it reads: "entropy"."""
        ...

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) advantages of the tokens for (P, G) advantages, no gradient; and metrics."""
        ...


class Surrogate(Protocol):
    """A surrogate that reads optional tensors names them in an attribute ``needs``, like a regularizer."""

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) loss of each token, and metrics, for advantages (P, G) or, of each token, (P, G, T)."""
        ...


class Aggregation(Protocol):
    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        """This batch's share of the update's mean of a (P, G, T) loss."""
        ...


class Regularizer(Protocol):
    """A term added to the loss, already multiplied by its coefficient."""

    @property
    def needs(self) -> frozenset[str]:
        """Which optional tensors it reads: "hidden_states", "entropy", "ref_log_probs"."""
        ...

    @property
    def is_active(self) -> bool:
        """Whether it adds anything at all; an inactive term is not added, so that the loss stays bit-identical."""
        ...

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        """This batch's share of the term, and metrics."""
        ...
