"""Hidden states of a sample of a rollout batch, each kept by the process that computed it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from relax_rl.errors import DataError
from relax_rl.objectives.inputs import HIDDEN_STATES
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer

__all__ = ["MOST_COMPLETIONS", "SampledStates", "sampled_places", "sampled_states"]

MOST_COMPLETIONS = 512
"""Completions of a rollout batch that are measured at most: enough for a quantile, whatever the size of the batch."""


@dataclass(frozen=True)
class SampledStates:
    """Part of the sample that a process keeps.

    Attributes:
        places: (n) of its rows in the sample of all processes.
        states: (n, T, H) on the CPU, in the precision of the forward; T is that of the longest row of all processes.
        mask: (n, T) bool, on the CPU.
    """

    places: list[int]
    states: Tensor
    mask: Tensor


def sampled_places(num_completions: int, group_size: int, most: int) -> list[int]:
    """The rows of a rollout batch that are sampled: whole groups, evenly spread; all where there are at most ``most``.

    Args:
        num_completions: number of completions of all processes, in whole groups.
        group_size: G; at least one group is sampled, even if it is larger than ``most``.
    """
    num_groups = num_completions // group_size
    chosen = min(num_groups, max(1, most // group_size))
    groups = [index * num_groups // chosen for index in range(chosen)]
    return [group * group_size + row for group in groups for row in range(group_size)]


def sampled_states(trainer: Trainer, provider: Provider, batches: list[Rows], masks: list[Tensor]) -> SampledStates:
    """One forward without gradient of each micro-batch that has sampled rows. Collective.

    Args:
        provider: provider of `HIDDEN_STATES`.
        batches: the micro-batches of this process, in whole groups; the column ``row`` numbers their rows.
        masks: (B, T) of each.

    Raises:
        DataError: the trainer has no hidden states.
    """
    accelerator, group = trainer.accelerator, trainer.args.num_generations
    num_rows = sum(len(mask) for mask in masks)
    first = accelerator.process_index * num_rows
    chosen = sampled_places(num_rows * accelerator.num_processes, group, MOST_COMPLETIONS)
    place_of = {row: place for place, row in enumerate(chosen)}
    places = [[place_of.get(first + int(row)) for row in batch["row"]] for batch in batches]
    is_needed = torch.tensor([[any(place is not None for place in of_batch) for of_batch in places]])
    # A sharded model's forward is a collective one, and must be run by all if it is by one.
    needed = accelerator.gather(is_needed.to(masks[0].device)).any(dim=0).tolist()
    widths = torch.tensor([max(mask.shape[1] for mask in masks)], device=masks[0].device)
    width = int(accelerator.gather(widths).max())
    kept: list[int] = []
    parts: list[tuple[Tensor, Tensor]] = []
    for batch, mask, of_batch, runs in zip(batches, masks, places, needed, strict=True):
        if not runs:
            continue
        found = provider.tensor(MicroBatch(batch, trainer.forward_only(batch), mask, group))
        if found is None:
            raise DataError(f"The trainer has no {HIDDEN_STATES.name}, which a dictionary is fitted on.")
        rows = [row for row, place in enumerate(of_batch) if place is not None]
        kept += [place for place in of_batch if place is not None]
        missing = width - mask.shape[1]
        parts.append((pad(found[rows].cpu(), (0, 0, 0, missing)), pad(mask[rows].cpu(), (0, missing))))
    if not parts:
        return SampledStates([], torch.empty(0, width, 0), torch.empty(0, width, dtype=torch.bool))
    states, mask = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return SampledStates(kept, states, mask)
