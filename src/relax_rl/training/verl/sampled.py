"""Which rows of a rollout batch of verl the dictionary is fitted on, and which go through the model for that."""

from __future__ import annotations

from relax_rl.training.sampled_states import MOST_COMPLETIONS
from relax_rl.training.verl.groups import Layout

__all__ = ["rows_to_run", "sampled_rows"]


def sampled_rows(layout: Layout, rank: int) -> dict[int, int]:
    """The rows of a process that are sampled, and their places in the sample: whole groups, evenly spread."""
    uids = list(layout.groups)
    size = len(layout.groups[uids[0]])
    count = min(len(uids), max(1, MOST_COMPLETIONS // size))
    chosen = [uids[index * len(uids) // count] for index in range(count)]
    places = enumerate(where for uid in chosen for where in layout.groups[uid])
    return {row: place for place, (source, row) in places if source == rank}


def rows_to_run(chosen: dict[int, int], num_rows: int, most: int, micro: int) -> list[int]:
    """The rows of a process that go through the model for a sample: as many as on any other, in whole micro-batches.

    A sharded model's forward is a collective one, and must be run by all if it is by one.

    Args:
        chosen: the sampled rows.
        num_rows: of the process, in whole micro-batches.
        most: sampled rows of the process that has most.
        micro: rows of a micro-batch.
    """
    count = -(-most // micro) * micro
    others = (row for row in range(num_rows) if row not in chosen)
    return [*chosen, *(row for row, _ in zip(others, range(count - len(chosen)), strict=False))]
