"""The groups of a mini-batch's completions, on all processes, and the place of each group and completion.

verl deals the rows of a rollout batch out by length, so that the completions of a prompt lie on several processes and,
where a rollout batch serves several updates, in several of them. Its padding rows have one masked token and the `uid`
of the row that they were copied from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from relax_rl.errors import DataError

__all__ = ["Layout", "Row", "dealt", "layout_of"]


@dataclass(frozen=True)
class Row:
    """One row of a process.

    Attributes:
        uid: id of its prompt.
        length: tokens, the prompt's included.
        num_tokens: number of tokens of the loss.
        may_be_padding: it has one response token, and no loss.
        digest: digest of its token ids; orders rows alike wherever verl put them, which `uid`, drawn again in each run,
            does not.
    """

    uid: str
    length: int
    num_tokens: int
    may_be_padding: bool
    digest: bytes = b""


@dataclass(frozen=True)
class Layout:
    """The groups of the rows of all processes.

    Attributes:
        groups: by uid in its order, the (process, row) of each completion.
        padding: the (process, row) of every other row.
        num_tokens: number of tokens of the loss, on all processes.
    """

    groups: dict[str, list[tuple[int, int]]]
    padding: list[tuple[int, int]]
    num_tokens: int

    @property
    def is_whole(self) -> bool:
        """Whether each group lies on one process, and there is no padding."""
        return not self.padding and all(len({rank for rank, _ in group}) == 1 for group in self.groups.values())

    def owner(self, uid: str) -> int:
        """The process that computes the loss of a group: one that has most of its completions."""
        counts: dict[int, int] = defaultdict(int)
        for rank, _ in self.groups[uid]:
            counts[rank] += 1
        return max(counts, key=lambda rank: (counts[rank], -rank))


def layout_of(rows: Sequence[Sequence[Row]], group_size: int) -> Layout:
    """The groups of the rows of each process.

    Args:
        group_size: G, ``rollout.n``.

    Raises:
        DataError: a prompt has another number of completions. An advantage over half a group is another number.
    """
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for rank, own in enumerate(rows):
        for place, row in enumerate(own):
            places[row.uid].append((rank, place))
    groups: dict[str, list[tuple[int, int]]] = {}
    padding: list[tuple[int, int]] = []
    for uid in sorted(places):
        # A completion whose tokens were all rejected looks the same; it is padding only where it is one too many.
        maybe = [(rank, place) for rank, place in places[uid] if rows[rank][place].may_be_padding]
        surplus = set(maybe[: max(len(places[uid]) - group_size, 0)])
        kept = [where for where in places[uid] if where not in surplus]
        padding += sorted(surplus)
        if len(kept) != group_size:
            raise DataError(
                f"A prompt has {len(kept)} completions in an update of verl, and a group has {group_size} (rollout.n); "
                "leave out what drops or adds single completions, and let relax_rl.training.verl.plugin deal the rows "
                "(actor_rollout_ref.model.external_lib)."
            )
        groups[uid] = kept
    num_tokens = sum(row.num_tokens for own in rows for row in own)
    return Layout(groups, padding, num_tokens)


def dealt(rows: Sequence[Sequence[Row]], layout: Layout, rows_of_update: int) -> list[list[tuple[int, int]]]:
    """For each process the (process, row) that it is to have, in an order in which no update breaks a group.

    Args:
        rows_of_update: rows of an update on all processes; each process has as many of every update.
    """
    num_processes = len(rows)
    queue = [where for group in layout.groups.values() for where in group] + layout.padding
    size = len(next(iter(layout.groups.values())))
    share = rows_of_update // num_processes
    found: list[list[tuple[int, int]]] = [[] for _ in rows]
    for start in range(0, len(queue), rows_of_update):
        update = queue[start : start + rows_of_update]
        if share % size or set(update) & set(layout.padding):
            # Some group must lie on two processes; the engine brings what is read of it together.
            parts = [update[place : place + share] for place in range(0, len(update), share)]
        else:
            parts = _balanced(update, size, share, num_processes, rows)
        for own, part in zip(found, parts, strict=True):
            own += part
    return found


def _balanced(
    update: list[tuple[int, int]], size: int, share: int, num_processes: int, rows: Sequence[Sequence[Row]]
) -> list[list[tuple[int, int]]]:
    """Whole groups to processes, the longest first and each to the process with the fewest tokens."""
    groups = [update[place : place + size] for place in range(0, len(update), size)]
    tokens = [sum(rows[rank][place].length for rank, place in group) for group in groups]
    parts: list[list[tuple[int, int]]] = [[] for _ in range(num_processes)]
    load = [0] * num_processes
    for place in sorted(range(len(groups)), key=lambda place: (-tokens[place], place)):
        free = [rank for rank in range(num_processes) if len(parts[rank]) < share]
        rank = min(free, key=lambda rank: (load[rank], rank))
        parts[rank] += groups[place]
        load[rank] += tokens[place]
    return parts
