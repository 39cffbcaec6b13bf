"""The rows of a rollout batch of verl for the fit of the dictionary, and those that go through the model for it."""

from __future__ import annotations

from collections.abc import Sequence

from relax_rl.training.sampled_states import MOST_COMPLETIONS
from relax_rl.training.verl.groups import Layout, Row

__all__ = ["rows_to_run", "sampled_rows"]


def sampled_rows(rows: Sequence[Sequence[Row]], layout: Layout, rank: int) -> dict[int, int]:
    """The rows of a process that are sampled, and their places in the sample: whole groups, evenly spread.

    The sample and its order follow from what was sampled, and not from where verl put it.

    Args:
        rows: rows of each process.
        layout: their groups.
        rank: rank of the process.
    """

    def digest(where: tuple[int, int]) -> bytes:
        return rows[where[0]][where[1]].digest

    groups = sorted((sorted(group, key=digest) for group in layout.groups.values()), key=lambda group: digest(group[0]))
    count = min(len(groups), max(1, MOST_COMPLETIONS // len(groups[0])))
    chosen = [groups[index * len(groups) // count] for index in range(count)]
    places = enumerate(where for group in chosen for where in group)
    return {row: place for place, (source, row) in places if source == rank}


def rows_to_run(chosen: dict[int, int], num_rows: int, most: int, micro: int) -> list[int]:
    """The rows of a process that go through the model for a sample: as many as on any other, in whole micro-batches.

    A sharded model's forward is a collective one, and must be run by all if it is by one.

    Args:
        chosen: the sampled rows.
        num_rows: number of rows of the process, in whole micro-batches.
        most: sampled rows of the process that has most.
        micro: rows of a micro-batch.
    """
    count = -(-most // micro) * micro
    others = (row for row in range(num_rows) if row not in chosen)
    return [*chosen, *(row for row, _ in zip(others, range(count - len(chosen)), strict=False))]
