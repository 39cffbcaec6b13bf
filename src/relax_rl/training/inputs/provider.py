"""Provider of an input: it may act at sampling, before the updates, in the forward, and at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from relax_rl.latent.capture import ForwardRecord
from relax_rl.latent.images.look import Look
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import Input

__all__ = ["MicroBatch", "Observer", "Provider", "Rows", "Trainer"]

Rows = dict[str, Any]
"""TRL's rows of a micro-batch by column, each tensor with the rows B = P*G as its first dimension."""


class Trainer(Protocol):
    """The trainer, as a provider sees it."""

    accelerator: Any
    args: Any
    state: Any
    temperature: float
    objective: Objective
    notices: Any

    @property
    def policy(self) -> Any:
        """The model that is trained, without its distributed wrapper."""
        ...

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer of the completions."""
        ...

    @property
    def is_training(self) -> bool:
        """False while the trainer evaluates."""
        ...

    @property
    def sampled_modes(self) -> list[str | None]:
        """The modes of the rows that were scored last; empty where no reward function tells any."""
        ...

    @property
    def sampled_answers(self) -> list[str | None]:
        """The answers that a verifier found in the rows that were scored last; empty where none tells any."""
        ...

    def completion_mask(self, rows: Rows) -> Tensor:
        """(B, T) bool, True where the policy sampled the token."""
        ...

    def forward_only(self, rows: Rows) -> ForwardRecord:
        """One forward of a micro-batch without gradient. Collective: call it on every rank."""
        ...

    def altered(
        self, given: list[dict[str, Any]], looks: list[Look], alter: Callable[[Image, str], Image]
    ) -> list[Look]:
        """For the look of each row, that of the same prompt with altered images; itself where it has none.

        Args:
            given: the data set's rows.
            alter: gives an image of the same size, and is told which one of the batch it is.
        """
        ...

    def surveys(self, batches: list[Rows]) -> list[Tensor]:
        """`Objective.survey` for each micro-batch of an update (N_b, C). Collective: it takes forwards."""
        ...


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch after its forward.

    Attributes:
        rows: TRL's columns.
        forward: forward of the policy, with gradient in training.
        mask: (B, T) bool.
        group_size: G.
    """

    rows: Rows
    forward: ForwardRecord
    mask: Tensor
    group_size: int

    @property
    def predicting_states(self) -> Tensor:
        """(B, T, H) the states that predict each completion token: the last prompt token's to the last but one's."""
        return self.states_ending(before=1)

    def states_ending(self, before: int) -> Tensor:
        """(B, T, H) of the (B, L, H) states, the last T of them `before` positions from the end."""
        end, width = self.forward.hidden_states.shape[1] - before, self.mask.shape[1]
        return self.forward.hidden_states[:, end - width : end]


class Observer:
    """Follows a rollout batch and may log figures of it, with the defaults of one that has nothing to do at a stage.

    The stages, in order: `sampled` for the rows of a generation, `before_updates` for the whole groups of a rollout
    batch, then `figures`.
    """

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        """Columns to add to freshly sampled rows; the first dimension is the rows, so that they travel together.

        Args:
            given: the data set's rows.
            output: TRL's columns for them.
        """
        return {}

    def before_updates(self, batches: list[Rows]) -> None:
        """A rollout batch is complete, in whole groups, before its first update. Collective."""

    def figures(self) -> dict[str, float]:
        """Scalars to log of a rollout batch, each once; asked for after `before_updates`."""
        return {}


class Provider(Observer):
    """Makes one input.

    Its stages go on: `before_update` for each update's micro-batches, `tensor` for each micro-batch.

    Args:
        wanted: the input, with what the objective says of it (such as HICRA's phrases).
        trainer: the one that trains.
    """

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        self.wanted = wanted
        self.trainer = trainer

    def before_update(self, batches: list[Rows]) -> None:
        """The micro-batches of an update, before its first forward. Collective."""

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        """(B, ...) the input of a micro-batch's rows, or (P, ...) if it is one of prompts; None where there is none."""
        raise NotImplementedError

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser was made: a provider that learns has it step its parameters, too."""

    def learns(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters, by name, that it has the optimiser step; none where it learns nothing."""
        return []

    def skip_step(self) -> None:
        """The optimiser's next step is none: what it learns must stay as it is."""

    def save(self, folder: Path) -> None:
        """Write what is needed to resume into a checkpoint folder."""

    def load(self, folder: Path) -> None:
        """Read it. Raises RunError where the checkpoint lacks it."""
