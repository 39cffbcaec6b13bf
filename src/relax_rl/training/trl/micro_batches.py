"""From the rows of a rollout batch to micro-batches of whole groups with little padding.

TRL pads every row to the longest of the rollout batch. Within an update, which micro-batch holds a group makes no
difference to the sum of their losses. So the groups of an update are sorted by length, and each micro-batch is as wide
as its own longest row.

No other assignment of whole groups to micro-batches of one size has narrower completions in all: the longest group
makes its micro-batch wide in any case, so the next longest ones cost nothing beside it. Measured on 64 groups of 16
countdown completions (45 tokens on average), four groups a micro-batch: 35 % of the positions are padding, 39 % in the
order of arrival, 38 % by the mean length, and 33 % with one group a micro-batch. These 33 % are inside the groups: a
method needs them whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

__all__ = ["by_length", "in_order", "micro_batches", "padding_of", "trimmed"]

Rows = dict[str, Any]

_OF_PROMPT = ("prompt_ids", "prompt_mask")
"""Columns that are padded on the left; those of completions are on the right."""


def in_order(shuffled: list[Rows]) -> Rows:
    """All rows of TRL's micro-batches, with its shuffle undone; images are split by row."""
    parts: list[Rows] = [split_pixel_values_by_grid(part) for part in shuffled]
    order = torch.cat([part["row"] for part in parts]).argsort()
    rows: Rows = {}
    for key, first in parts[0].items():
        if isinstance(first, Tensor) and first.ndim > 0:
            rows[key] = torch.cat([part[key] for part in parts])[order]
        elif isinstance(first, list):
            joined = [item for part in parts for item in part[key]]
            rows[key] = [joined[index] for index in order.tolist()]
        else:
            rows[key] = first
    return rows


def by_length(rows: Rows, group: int, update: int) -> Rows:
    """The rows of each update sorted by the longest completion of their group, then by its prompt.

    Args:
        rows: in whole groups; no images.
        group: G.
        update: rows of an update.
    """
    longest = [rows[key].sum(-1).unflatten(0, (-1, group)).amax(-1) for key in ("completion_mask", "prompt_mask")]
    lengths = torch.stack(longest, dim=-1).tolist()
    groups_of_update = update // group
    order: list[int] = []
    for start in range(0, len(lengths), groups_of_update):
        groups = sorted(range(start, start + groups_of_update), key=lambda place: lengths[place])
        order += [place * group + member for place in groups for member in range(group)]
    index = torch.tensor(order, device=rows["row"].device)
    return {key: value[index] if isinstance(value, Tensor) and value.ndim else value for key, value in rows.items()}


def micro_batches(rows: Rows, count: int) -> list[Rows]:
    """The rows cut into `count` micro-batches of the same size, as wide as they came."""
    parts: list[Any] = split_tensor_dict(rows, count)
    return [unsplit_pixel_values_by_grid(part) for part in parts]


def trimmed(batch: Rows, multiple: int | None) -> Rows:
    """A micro-batch as wide as its longest prompt and its longest completion.

    Args:
        multiple: both widths are a multiple of it, as far as there are columns.
    """
    num_tokens = batch["completion_ids"].shape[1]
    prompt, completion = (_width(batch[key], multiple) for key in ("prompt_mask", "completion_mask"))
    cut: Rows = {}
    for key, value in batch.items():
        is_wide = isinstance(value, Tensor) and value.ndim == 2
        if is_wide and key in _OF_PROMPT:
            value = value[:, value.shape[1] - prompt :]
        elif is_wide and value.shape[1] == num_tokens:
            value = value[:, :completion]
        cut[key] = value
    return cut


def _width(mask: Tensor, multiple: int | None) -> int:
    longest = max(1, int(mask.sum(-1).max()))
    return min(mask.shape[1], -(-longest // multiple) * multiple if multiple else longest)


def padding_of(batches: list[Rows]) -> tuple[int, int]:
    """How many positions of some micro-batches are padding, and how many there are."""
    masks = [batch[key] for batch in batches for key in ("prompt_mask", "completion_mask")]
    positions = sum(mask.numel() for mask in masks)
    return positions - sum(int(mask.sum()) for mask in masks), positions
