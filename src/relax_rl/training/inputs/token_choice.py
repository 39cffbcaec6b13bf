"""Bringing the tokens of an update together, from micro-batches and processes, so that a method can compare them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import Objective

__all__ = ["choose_over_update"]


def choose_over_update(
    accelerator: Any, objective: Objective, columns: list[Tensor], masks: list[Tensor]
) -> list[Tensor]:
    """What the objective makes of each token of an update, for this process's micro-batches.

    The tokens are compared in the order process, micro-batch, row, position, which is the order of the rows of a
    rollout batch where it serves one update: so the choice is the same on one process as on many.

    Args:
        accelerator: of the trainer; every process must call this.
        objective: one with a `selector`.
        columns: (N_b, C) for each micro-batch, from `Objective.survey`.
        masks: (B, T) bool for each, the tokens that the columns are of.

    Returns:
        (B, T) for each micro-batch: `RolloutBatch.token_choice`.
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
