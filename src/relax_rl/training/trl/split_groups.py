"""An update whose micro-batches are smaller than a group: two passes, see `relax_rl.objectives.shares`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, RolloutBatch
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.groups import grouped
from relax_rl.objectives.inputs import Input
from relax_rl.objectives.shares import LOG_PROBS, Shares, shares_of
from relax_rl.training.inputs.provider import Rows
from relax_rl.training.inputs.token_choice import by_token
from relax_rl.training.rows import in_row_order, places_in_row_order

__all__ = ["SplitUpdate", "check_split_groups", "lifted", "survey_of_parts", "together"]

Reader = Callable[[Rows], RolloutBatch]
"""Reads the rows of a micro-batch by a forward without gradient; see `together`."""


def check_split_groups(objective: Objective, *, disable_dropout: bool) -> None:
    """Refuse what two passes over parts of groups cannot give.

    Raises:
        ConfigError: the loss depends on how an update is cut, or both passes would see different dropout.
    """
    if objective.reads_layout:
        raise ConfigError(
            f"The loss of '{objective.name}' with these settings depends on which groups share a micro-batch, so that "
            "a micro-batch must hold whole groups; set per_device_train_batch_size to a multiple of num_generations."
        )
    if not disable_dropout:
        raise ConfigError(
            "Micro-batches smaller than a group take two passes, which must not differ by dropout; set "
            "disable_dropout = true, or per_device_train_batch_size to a multiple of num_generations."
        )


def lifted(batch: RolloutBatch, objective: Objective) -> RolloutBatch:
    """The batch with lifted states in place of hidden ones, where the objective reads no more than these."""
    if batch.hidden_states is None or objective.probe is None or not objective.reads_lifted_states:
        return batch
    states = objective.probe.lifted_columns(batch.hidden_states)
    return replace(batch, hidden_states=None, lifted_states=states)


def together(batches: Sequence[Rows], read: Reader) -> RolloutBatch:
    """The whole groups of an update, with a group axis, in the order of the rows.

    Args:
        read: gives a micro-batch with group ids; what is read of all of them is kept at once, without gradient.
    """
    parts = [read(batch) for batch in batches]
    joined: dict[str, Tensor] = {}
    for one in fields(RolloutBatch):
        found = [vars(part)[one.name] for part in parts]
        if one.name not in ("totals", "extras") and found[0] is not None:
            joined[one.name] = in_row_order(batches, [tensor.detach() for tensor in found])
    extras = {of: in_row_order(batches, [part.extras[of].detach() for part in parts]) for of in parts[0].extras}
    return grouped(replace(parts[0], **joined, extras=extras)).batch


def survey_of_parts(objective: Objective, batches: Sequence[Rows], read: Reader) -> list[Tensor]:
    """`Objective.survey` for each micro-batch (N_b, C), where it takes whole groups to know what it tells."""
    batch = together(batches, read)
    mask = batch.mask.flatten(0, 1)
    tokens = by_token(objective.survey(batch), mask)
    found: list[Tensor] = []
    for rows, place in zip(batches, places_in_row_order(batches), strict=True):
        width = rows["completion_ids"].shape[1]
        found.append(tokens[place, :width][mask[place, :width]])
    return found


@dataclass(frozen=True)
class SplitUpdate:
    """Result of the first pass over an update.

    Attributes:
        batch: its whole groups, without gradient.
        output: output of the objective on these: the figures of the whole update.
        rows: (B,) the column ``row`` in increasing order.
        shares: in that order.
    """

    batch: RolloutBatch
    output: ObjectiveOutput
    rows: Tensor
    shares: Shares

    @classmethod
    def read(cls, objective: Objective, batches: Sequence[Rows], read: Reader) -> SplitUpdate:
        """The first pass. Collective where the model's forward is."""
        batch = together(batches, read)
        shares, output = shares_of(objective, batch)
        return cls(batch, output, torch.cat([rows["row"] for rows in batches]).sort().values, shares)

    def loss(self, rows: Tensor, part: RolloutBatch) -> Tensor:
        """The share of a micro-batch, whose second pass has a gradient.

        Args:
            rows: (b,) its column ``row``.
            part: the part of it that was read, as in the first pass.
        """
        given: dict[Input, Tensor] = {LOG_PROBS: part.log_probs, **part.given}
        return self.shares.of_rows(torch.searchsorted(self.rows, rows)).loss(given).float()
