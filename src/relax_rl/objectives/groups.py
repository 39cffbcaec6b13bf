"""From completions in any order, with the id of their group, to whole groups, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.objectives.batch import RolloutBatch

__all__ = ["Groups", "grouped", "joined"]


@dataclass(frozen=True)
class Groups:
    """Whole groups, and where their completions came from.

    Attributes:
        batch: (P, G, ...) groups in the order of their ids, completions of a group in the order of the rows.
        rows: (P, G) the row of each.
    """

    batch: RolloutBatch
    rows: Tensor

    def in_rows(self, values: Tensor) -> Tensor:
        """(B, ...) values (P, G, ...) in the order of the rows."""
        return values.flatten(0, 1)[self.rows.flatten().argsort()]


def grouped(batch: RolloutBatch) -> Groups:
    """The groups of a batch with group ids, or those that it has already.

    Raises:
        DataError: groups that are not whole. An advantage over half a group is another number, and nothing shows it.
    """
    ids = batch.group_ids
    if ids is None:
        num_prompts, size = batch.log_probs.shape[:2]
        return Groups(batch, torch.arange(num_prompts * size, device=batch.log_probs.device).view(num_prompts, size))
    rows = ids.argsort(stable=True).view(-1, _group_size(batch, ids))
    return Groups(batch.with_axis(rows), rows)


def joined(parts: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Columns of several parts (B_i, T_i, ...) as one (B, T, ...): T is the widest, what is added is 0 or False."""
    found: dict[str, Tensor] = {}
    for name, tensors in parts.items():
        if tensors[0].dim() > 1:
            width = max(tensor.shape[1] for tensor in tensors)
            tensors = [_widened(tensor, width) for tensor in tensors]
        found[name] = torch.cat(tensors)
    return found


def _widened(tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, missing)) if missing else tensor


def _group_size(batch: RolloutBatch, ids: Tensor) -> int:
    _, counts = ids.unique(return_counts=True)
    sizes = sorted(set(counts.tolist()))
    totals = batch.totals
    due = None if totals is None or not totals.num_prompts else totals.num_completions / totals.num_prompts
    if len(sizes) == 1 and due in (None, sizes[0]):
        return sizes[0]
    of_update = "" if due is None else f", where the update has groups of {due:g}"
    found = ", ".join(map(str, sizes)) or "no"
    raise DataError(
        f"group_ids make groups of {found} completions{of_update}; bring the completions of each prompt together, all "
        "of one number, or split groups by relax_rl.objectives.shares."
    )
