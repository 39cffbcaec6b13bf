"""Dynamic sampling: groups that teach nothing are replaced by groups of other prompts, within a budget.

DAPO (arXiv 2503.14476, sec. 3.2). A group whose completions all have the same reward has advantage 0 throughout. It is
replaced by one of a new prompt, until every group teaches or the budget is spent. DAPO draws whole batches and
throws away what is left over; here only what is missing is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError

__all__ = ["DynamicSampling", "Rollout", "is_informative"]

_LEFT = ("prompt_ids", "prompt_mask")
"""Rows that are padded on the left; all others are on the right."""


@dataclass
class Rollout:
    """A rollout batch of this process: TRL's tensors by row, and what is recorded of each row."""

    tensors: dict[str, Any]
    rows: list[dict[str, Any]]


def is_informative(rewards: Tensor) -> Tensor:
    """(P,) bool: whether the scored completions of a group differ in reward, for (P, G) with NaN for no score."""
    scored = ~rewards.isnan()
    high = rewards.masked_fill(~scored, -torch.inf).amax(-1)
    low = rewards.masked_fill(~scored, torch.inf).amin(-1)
    return high > low


class DynamicSampling:
    """Refills rollout batches.

    Args:
        max_batches: budget of a rollout batch, in batches: at most so many times its prompts are sampled from.
        seed: seed of the prompts drawn.

    Attributes:
        draws: prompts drawn so far, by all processes; it is the whole state.
    """

    def __init__(self, max_batches: int, seed: int) -> None:
        if max_batches < 1:
            raise ConfigError(f"sampling.max_batches must be at least 1, but is {max_batches}.")
        self.max_batches = max_batches
        self.draws = 0
        self._seed = seed

    def prompts(self, count: int, accelerator: Any, dataset: Any) -> list[dict[str, Any]]:
        """The next `count` prompts for this process; every process must ask for as many."""
        first = self.draws + accelerator.process_index * count
        self.draws += accelerator.num_processes * count
        return [dataset[self._index(draw, len(dataset))] for draw in range(first, first + count)]

    def _index(self, draw: int, size: int) -> int:
        digest = hashlib.sha256(f"refill {self._seed} {draw}".encode()).digest()
        return int.from_bytes(digest[:8]) % size

    def refilled(
        self,
        rollout: Rollout,
        sample: Callable[[list[dict[str, Any]]], Rollout],
        accelerator: Any,
        dataset: Any,
        group_size: int,
        pad_token_id: int,
    ) -> tuple[Rollout, dict[str, float]]:
        """The rollout batch with groups that teach, and how much was sampled for it, over all processes.

        Args:
            rollout: as first sampled.
            sample: samples and scores whole groups; every process calls it with as many rows.
            accelerator, dataset: accelerator and data set of the trainer.
            group_size: G.
            pad_token_id: for rows of other widths.
        """
        informative = is_informative(rollout.tensors["rewards"].unflatten(0, (-1, group_size)))
        num_prompts = sampled = len(informative)
        while sampled < self.max_batches * num_prompts:
            missing = int(accelerator.gather((~informative).sum().unsqueeze(0)).max())
            if missing == 0:
                break
            count = min(missing, self.max_batches * num_prompts - sampled)
            given = [row for row in self.prompts(count, accelerator, dataset) for _ in range(group_size)]
            fresh = sample(given)
            sampled += count
            found = is_informative(fresh.tensors["rewards"].unflatten(0, (-1, group_size))).nonzero().flatten()
            places = (~informative).nonzero().flatten()[: len(found)]
            _replace(rollout, fresh, places.tolist(), found[: len(places)].tolist(), group_size, pad_token_id)
            informative[places] = True
        share = accelerator.gather(informative.float().mean().unsqueeze(0)).mean()
        completions = sampled * group_size * accelerator.num_processes
        return rollout, {"sampling/completions": float(completions), "sampling/informative": float(share)}


def _replace(
    rollout: Rollout, fresh: Rollout, places: list[int], found: list[int], group_size: int, pad_token_id: int
) -> None:
    """Put the groups `found` of a fresh rollout into the places of another."""
    to = [place * group_size + member for place in places for member in range(group_size)]
    of = [group * group_size + member for group in found for member in range(group_size)]
    for key, old in rollout.tensors.items():
        if isinstance(old, Tensor) and old.ndim > 0:
            new = fresh.tensors[key]
            if old.ndim == 2:
                fill = pad_token_id if key.endswith("_ids") else 0
                width = max(old.shape[1], new.shape[1])
                old, new = (_padded(rows, width, fill, key in _LEFT) for rows in (old, new))
            rollout.tensors[key] = old.index_copy(0, torch.tensor(to, device=old.device, dtype=torch.int64), new[of])
        elif isinstance(old, list):
            raise ConfigError(f"Dynamic sampling cannot replace rows of {key!r}; set sampling.max_batches to 1.")
    for place, source in zip(to, of, strict=True):
        rollout.rows[place] = fresh.rows[source]


def _padded(rows: Tensor, width: int, fill: int, on_the_left: bool) -> Tensor:
    missing = width - rows.shape[1]
    return torch.nn.functional.pad(rows, (missing, 0) if on_the_left else (0, missing), value=fill)
