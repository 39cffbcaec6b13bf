"""The problems that show an unusable image, and the words for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from relax_rl.errors import DataError
from relax_rl.tasks.images.picture import Picture, as_picture

__all__ = ["fault_of", "fault_words", "usable"]

_Item = TypeVar("_Item")
_CHUNK = 64
_MOST_NAMED = 10


def fault_of(images: Sequence[object]) -> str | None:
    """Why one of some images cannot be used; None: all can. Each is decoded once and let go."""
    try:
        for image in images:
            as_picture(image).open()
    except (DataError, MemoryError) as error:
        return str(error).rstrip(".") or "it does not fit into memory"
    return None


def usable(
    items: Sequence[_Item],
    pictures: Callable[[_Item], Sequence[Picture]],
    count: int | None,
    faults: dict[int, str],
) -> list[_Item]:
    """The first ``count`` of some items (None: all) whose pictures can be decoded; threads decode side by side.

    Args:
        pictures: pictures of an item.
        faults: receives the position of each item that was left out, and why.
    """
    kept: list[_Item] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _CHUNK):
            if count is not None and len(kept) >= count:
                break
            chunk = items[start : start + _CHUNK]
            found = pool.map(lambda item: fault_of(pictures(item)), chunk)
            for place, (item, fault) in enumerate(zip(chunk, found, strict=True), start):
                if count is not None and len(kept) >= count:
                    break
                if fault is None:
                    kept.append(item)
                else:
                    faults[place] = fault
    return kept


def fault_words(faults: Iterable[tuple[str, str]]) -> str | None:
    """One line for people: how many problems were left out, and the first of them by name; None: none was.

    Args:
        faults: id of a problem, and why its image cannot be used.
    """
    known = list(faults)
    if not known:
        return None
    named = "; ".join(f"{identity} ({why})" for identity, why in known[:_MOST_NAMED])
    more = f"; and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    noun = "problem is" if len(known) == 1 else "problems are"
    return f"{len(known)} {noun} left out, whose image cannot be used: {named}{more}"
