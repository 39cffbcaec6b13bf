"""Images and their marks as rows of published data sets have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relax_rl.tasks.images.picture import Picture, as_picture

__all__ = ["cell_pictures", "numbered_marks"]

_MARKED = re.compile(r"<image[ _]?(\d{1,3})>", re.ASCII)
_COUNTED = re.compile(r"<image>")


def cell_pictures(value: Any, folder: Path | None, name: str) -> tuple[Picture, ...]:
    """The images of a cell: one, a list of them, or none.

    Args:
        folder: start of relative paths.
        name: name of the cell, for errors.

    Raises:
        DataError: the cell holds anything else.
    """
    if value is None or value == "" or value == []:
        return ()
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(as_picture(one, folder, name) for one in values if one is not None)


def numbered_marks(text: str) -> str:
    """``<image1>`` and ``<image_1>`` as ``<image 1>``; ``<image>`` counts from 1 on, where there is no number."""
    if _MARKED.search(text):
        return _MARKED.sub(r"<image \1>", text)
    numbers = iter(range(1, 1000))
    return _COUNTED.sub(lambda _: f"<image {next(numbers)}>", text)
