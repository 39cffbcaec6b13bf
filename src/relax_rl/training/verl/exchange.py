"""Exchange between the processes of a data-parallel group."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from verl.utils.device import get_device_name

__all__ = ["exchanged", "from_all", "made_by_first"]

T = TypeVar("T")


def exchanged(parts: Sequence[T], group: Any) -> list[T]:
    """Receive a part from each process of a group: two calls of ``all_to_all``, of lengths and of bytes. Collective.

    Args:
        parts: one object for each process, in their order; each goes to its process alone.
    """
    rank, size = distributed.get_rank(group), distributed.get_world_size(group)
    found: list[Any] = [parts[rank]] * size
    if size == 1:
        return found
    # What stays here is not sent.
    sent = [_as_bytes(None if place == rank else part) for place, part in enumerate(parts)]
    lengths = torch.tensor([len(part) for part in sent], device=get_device_name())
    expected = torch.empty_like(lengths)
    distributed.all_to_all_single(expected, lengths, group=group)
    sizes: list[int] = expected.tolist()
    received = torch.empty(sum(sizes), dtype=torch.uint8, device=lengths.device)
    distributed.all_to_all_single(received, torch.cat(sent), sizes, lengths.tolist(), group=group)
    for source, part in enumerate(received.cpu().split(sizes)):
        if source != rank:
            found[source] = pickle.loads(part.numpy().tobytes())
    return found


def _as_bytes(part: object) -> Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(part)), dtype=torch.uint8).to(get_device_name())


def from_all(part: T, group: Any) -> list[T]:
    """Gather the value of every process of a group on all of them; for small things. Collective."""
    found: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, part, group)
    return found


def made_by_first(make: Callable[[], T]) -> T:
    """Make a value on the first of all processes and return it on all of them. Collective.

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
