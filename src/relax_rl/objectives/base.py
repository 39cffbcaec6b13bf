"""The contract between an objective and its caller.

A method is a composition: advantage -> token weights (if any) -> surrogate -> aggregation, plus regularizers. A method
that distinguishes the completions of a group by their hidden states has a signal, which all of these may read.

Each part is a `Component`: a small frozen dataclass with a pure ``__call__``. What it reads and what moves in it are
methods with a default, so a trainer asks every component the same questions and never what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input
from relax_rl.objectives.probe import GroupDispersion, LiftedStates
from relax_rl.objectives.updates import UpdateReport

__all__ = [
    "Advantage",
    "Aggregation",
    "Component",
    "GroupSignal",
    "Measurements",
    "ObjectiveOutput",
    "Regularizer",
    "SelectionScope",
    "SignalReading",
    "Surrogate",
    "TokenSelector",
    "TokenWeights",
]


@dataclass(frozen=True)
class Measurements:
    """Quantities of a batch that regularizers share, each computed once.

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
    """The result of an objective on one batch.

    Attributes:
        loss: scalar to minimise, with gradient.
        metrics: scalars to log.
        per_completion: (P, G), or (B,) for a batch with group ids, values to record with the completions: the
            advantage, and the dispersion and the signal (NaN where they are not defined) if the method measures them.
        to_remember: (N, ...) rows about N of the completions that the method wants back after the rollout batch
            (`Component.after_rollout`).
        terms: () what each component adds to the loss, by the component's name, no gradient.
        latent_seconds: spent on lifting the states and on their dispersion, without the gradient.
    """

    loss: Tensor
    metrics: dict[str, float]
    per_completion: dict[str, Tensor]
    to_remember: Tensor | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    latent_seconds: float = 0.0


@dataclass(frozen=True)
class SignalReading:
    """The result of a signal on one batch.

    Attributes:
        values: (P, G) float64, with gradient through the lifted states; NaN, without gradient, where undefined.
        to_remember: as in `ObjectiveOutput`.
    """

    values: Tensor
    to_remember: Tensor | None = None


class Component:
    """One part of an objective, with the defaults of a part that reads no optional input and never changes.

    A component is immutable. The three hooks ``before_rollout``, ``after`` and ``after_rollout`` return the component
    for what comes next, in this order: rewards known -> updates of the rollout batch -> its last update done.
    """

    @property
    def label(self) -> str:
        """Its name in sentences."""
        return type(self).__name__

    def inputs(self) -> frozenset[Input]:
        """The optional inputs that it reads."""
        return frozenset()

    @property
    def reference_coefficient(self) -> float:
        """How strongly it pulls towards the reference policy; above 0 a run keeps a reference model."""
        return 0.0

    @property
    def reads_layout(self) -> bool:
        """Whether it depends on which groups share a micro-batch, or on how wide that is padded."""
        return False

    @property
    def waits_for(self) -> str:
        """In words, what must happen before it acts at all; empty where it acts from the start."""
        return ""

    @property
    def selector(self) -> TokenSelector | None:
        """Itself, if it compares all tokens of an update (`relax_rl.objectives.selection`)."""
        return None

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> Self:
        """The component that knows a rollout batch's rewards (P, G) and prompt keys (P,) int64.

        Called once a rollout batch, before its first update, for objectives that read `PROMPT_KEYS`. All ranks give the
        same tensors, those of all ranks.

        Args:
            modes: (P, G) int64, for objectives that read `MODES`.
            lengths: (P, G) int64, tokens of each completion that the loss is of.
            latent: (P, G, D) positions, for objectives that read `LATENT_KEYS`.
        """
        return self

    def after(self, report: UpdateReport) -> Self:
        """The component of the next update."""
        return self

    def to_remember(self, batch: RolloutBatch) -> Tensor | None:
        """(N, ...) rows about N of a batch's completions that it wants back after the rollout batch; None: nothing."""
        return None

    def after_rollout(self, rows: Tensor) -> Self:
        """The component that knows the rows (N, ...) that `ObjectiveOutput.to_remember` gave for a rollout batch.

        Called after the last update of a rollout batch, so that no completion is compared with itself.
        """
        return self

    def recalibrated(self) -> Self:
        """The component after the dictionary was fitted again: measurements by the former one are void."""
        return self

    def state(self) -> dict[str, Any]:
        """All that moves from one update to the next, as JSON has it; empty where nothing moves."""
        return {}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """The component with the state of another one."""
        return self


class Advantage(Component, ABC):
    """From rewards to advantages.

    Attributes:
        reads_log_probs: whether it reads log-probabilities of the batch itself, which `inputs` does not list.
    """

    reads_log_probs: ClassVar[bool] = False

    @property
    def takes_parts(self) -> bool:
        """Whether it takes rewards other than 0 and 1."""
        return True

    @abstractmethod
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""


class TokenWeights(Component, ABC):
    """Distributes a completion's advantage over its tokens.

    A weight w >= 0 is given as an advantage w A: every surrogate here is linear in the size of the advantage.
    """

    @abstractmethod
    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) advantages of the tokens for (P, G) advantages, no gradient; and metrics."""


class Surrogate(Component, ABC):
    """The policy-gradient loss of each token."""

    @abstractmethod
    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(P, G, T) loss of each token, and metrics, for advantages (P, G) or, of each token, (P, G, T)."""


class Aggregation(Component, ABC):
    """From a loss for each token to one number."""

    @abstractmethod
    def __call__(self, loss: Tensor, batch: RolloutBatch) -> Tensor:
        """This batch's share of the update's mean of a (P, G, T) loss."""


class Regularizer(Component, ABC):
    """A term added to the loss, already multiplied by its coefficient."""

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether it adds anything at all; an inactive term is not added, so that the loss stays bit-identical."""

    @abstractmethod
    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        """This batch's share of the term, and metrics."""


SelectionScope = Literal["update", "micro_batch"]
"""Over which tokens a component compares: all of an update, on all ranks, or those of one micro-batch."""


class TokenSelector(Component, ABC):
    """A component that singles out tokens by comparing them with the others; see `relax_rl.objectives.selection`.

    Attributes:
        scope: over which tokens it compares.
        is_idle_on_policy: whether the choice has no effect where every ratio is 1, so that an update on-policy can go
            without one.
    """

    scope: SelectionScope
    is_idle_on_policy: ClassVar[bool] = False

    @property
    def selector(self) -> TokenSelector | None:
        return self if self.scope == "update" else None

    @property
    def reads_layout(self) -> bool:
        return self.scope == "micro_batch"

    @abstractmethod
    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, C) the numbers of each token that `choose` compares, no gradient; masked tokens are ignored."""

    @abstractmethod
    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the part of each token, for the columns (N, C) of all tokens that are compared."""


class GroupSignal(Component, ABC):
    """A number for each completion of a group, read off the lifted states of them all."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name it is logged (``latent/NAME``) and recorded under."""

    @abstractmethod
    def __call__(self, lifted: LiftedStates, batch: RolloutBatch) -> SignalReading:
        """The signal of the batch's completions, from their lifted states."""
