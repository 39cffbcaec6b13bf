"""Rows: the images of one of the data set's, and micro-batches in the order in which a rollout batch was sampled.

Micro-batches are cut by length (`relax_rl.training.trl.micro_batches`). What compares rows of several micro-batches,
draws among them or writes them down works in the order of the column ``row``, which no cut changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["images_of", "in_row_order", "places_in_row_order"]


def images_of(row: Mapping[str, Any]) -> list[Any]:
    """The images of a row of the data set, under either name that TRL takes."""
    if "images" in row:
        return list(row["images"] or ())
    return [row["image"]] if row.get("image") is not None else []


def places_in_row_order(batches: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """For each micro-batch, (B_b,) the places of its rows among the rows of all of them in their order."""
    rows = torch.cat([batch["row"] for batch in batches])
    return list(rows.argsort().argsort().split([len(batch["row"]) for batch in batches]))


def in_row_order(batches: Sequence[Mapping[str, Any]], parts: Sequence[Tensor]) -> Tensor:
    """(B, ...) one tensor in the order of the rows, from (B_b, ...) for each micro-batch.

    The second dimension may differ between micro-batches; shorter ones are padded with zeros at its end.
    """
    if parts[0].ndim > 1:
        width = max(part.shape[1] for part in parts)
        parts = [pad(part, (0, 0) * (part.ndim - 2) + (0, width - part.shape[1])) for part in parts]
    return torch.cat(list(parts))[torch.cat([batch["row"] for batch in batches]).argsort()]
