"""Bringing the tokens of an update together, from micro-batches and processes, so that a method can compare them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import Objective
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows
from relax_rl.training.rows import in_row_order, places_in_row_order

__all__ = ["ChoiceOverUpdate", "by_token", "choose_over_update"]


def choose_over_update(
    accelerator: Any, objective: Objective, columns: list[Tensor], masks: list[Tensor]
) -> list[Tensor]:
    """The objective's choice among all tokens of an update, for this process's micro-batches.

    The tokens are compared in the order process, micro-batch, row, position, which is the order of the rows of a
    rollout batch where it serves one update: so the choice is the same on one process as on many.

    Args:
        accelerator: accelerator of the trainer; every process must call this.
        objective: one with a `selector`.
        columns: (N_b, C) for each micro-batch, from `Objective.survey`.
        masks: (B, T) bool for each, the tokens that the columns are of.

    Returns:
        (B, T) for each micro-batch: the input `TOKEN_CHOICE`.
    """
    local = torch.cat(columns)
    counts = accelerator.gather(torch.tensor([len(local)], device=local.device)).tolist()
    padded = accelerator.gather(accelerator.pad_across_processes(local, dim=0))
    pieces = padded.view(len(counts), -1, local.shape[-1])
    together = torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])
    start = sum(counts[: accelerator.process_index])
    own = objective.choose(together)[start : start + len(local)].float()
    choices = []
    for mask, chosen in zip(masks, own.split([len(part) for part in columns]), strict=True):
        choices.append(torch.zeros_like(mask, dtype=chosen.dtype).masked_scatter(mask, chosen))
    return choices


def by_token(columns: Tensor, mask: Tensor) -> Tensor:
    """(B, T, C) with the columns (N, C) at the N tokens of a mask (B, T), and 0 elsewhere."""
    spread = columns.new_zeros((*mask.shape, columns.shape[-1]))
    spread[mask] = columns
    return spread


class ChoiceOverUpdate(Provider):
    """Has the objective choose among all tokens of an update before its first micro-batch.

    One more forward of the update without gradient. A single micro-batch on a single process is the whole update, and
    chooses for itself.
    """

    def before_update(self, batches: list[Rows]) -> None:
        trainer, selector = self.trainer, self.trainer.objective.selector
        if selector is None or len(batches) * trainer.accelerator.num_processes == 1:
            return
        masks = [trainer.completion_mask(batch) for batch in batches]
        if selector.is_idle_on_policy and "old_per_token_logps" not in batches[0]:
            choices = [torch.zeros_like(mask, dtype=torch.float32) for mask in masks]
        else:
            columns = trainer.surveys(batches)
            # In the order of the rows: neither length nor the size of a micro-batch decides between equals.
            mask = in_row_order(batches, masks)
            tokens = in_row_order(batches, [by_token(part, own) for part, own in zip(columns, masks, strict=True)])
            choice = choose_over_update(trainer.accelerator, trainer.objective, [tokens[mask]], [mask])[0]
            places = places_in_row_order(batches)
            choices = [choice[place, : own.shape[1]] for place, own in zip(places, masks, strict=True)]
        for batch, choice in zip(batches, choices, strict=True):
            batch["token_choice"] = choice

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.rows.get("token_choice")
