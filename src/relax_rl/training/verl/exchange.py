"""What the processes of a data-parallel group send each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import distributed

__all__ = ["exchanged", "from_all", "made_by_first"]

T = TypeVar("T")


def exchanged(parts: Sequence[T], group: Any) -> list[T]:
    """What each process of a group gives this one. Collective.

    Args:
        parts: one object for each process, in their order; each goes to its process alone.
    """
    rank, size = distributed.get_rank(group), distributed.get_world_size(group)
    # What stays here is not sent.
    found: list[Any] = [parts[rank]] * size
    for source in range(size if size > 1 else 0):
        given = [None if place == source else part for place, part in enumerate(parts)] if source == rank else None
        received: list[Any] = [None]
        distributed.scatter_object_list(received, given, src=distributed.get_global_rank(group, source), group=group)
        if source != rank:
            found[source] = received[0]
    return found


def from_all(part: T, group: Any) -> list[T]:
    """What every process of a group gives, on all of them; for small things. Collective."""
    found: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, part, group)
    return found


def made_by_first(make: Callable[[], T]) -> T:
    """What the first of all processes makes, on all of them. Collective.

    Raises:
        Exception: on every process, what the first one raises.
    """
    made: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            made[0] = make()
        except Exception as error:
            made[1] = error
    distributed.broadcast_object_list(made, src=0)
    result, failure = made
    if failure is not None:
        raise failure
    return result
