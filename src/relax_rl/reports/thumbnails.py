"""Small copies of images inside a page, within a budget of bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from relax_rl.errors import DataError
from relax_rl.reports.markup import Html, element, join
from relax_rl.tasks.images.picture import Picture
from relax_rl.tasks.images.thumbnails import thumbnail

__all__ = ["Thumbnails"]

_BUDGET = 600_000
"""Bytes of all thumbnails of a page, as they stand in it."""
_PNG = b"\x89PNG"


class Thumbnails:
    """Puts each image into a page once, as long as the budget lasts.

    Args:
        budget: bytes of all of them together.

    Attributes:
        sources: data URIs by name, of the images that are in the page.
        num_left_out: images for which there was no room.
    """

    def __init__(self, budget: int = _BUDGET) -> None:
        self.sources: dict[str, str] = {}
        self.num_left_out = 0
        self._left = budget
        self._refused: set[str] = set()

    def add(self, name: str, data: bytes | None) -> bool:
        """Take an encoded image into the page. False where there is none, or no room for it."""
        if name in self.sources:
            return True
        if data is None or name in self._refused:
            return False
        kind = "png" if data.startswith(_PNG) else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
        if len(source) > self._left:
            self._refused.add(name)
            self.num_left_out += 1
            return False
        self._left -= len(source)
        self.sources[name] = source
        return True

    def of_pictures(self, pictures: Sequence[Picture], names: Sequence[str]) -> Html:
        """The images of a problem, side by side."""
        for picture, name in zip(pictures, names, strict=True):
            if name not in self.sources:
                self.add(name, _encoded(picture))
        return self.row(names)

    def row(self, names: Sequence[str]) -> Html:
        """Images by their names, side by side; the name in words where the image is not in the page."""
        return join([self._image(name) for name in names])

    def _image(self, name: str) -> Html:
        if name not in self.sources:
            return element("span", f"[{name}] ", class_="note")
        return element("img", src=self.sources[name], alt=name, title=name, class_="thumbnail")


def _encoded(picture: Picture) -> bytes | None:
    try:
        return thumbnail(picture.open())
    except (DataError, OSError, MemoryError):
        return None
