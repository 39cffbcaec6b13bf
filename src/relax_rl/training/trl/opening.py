"""Images of a data set for TRL: the table holds digests, and a row is decoded when it is read."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from PIL.Image import Image

from relax_rl.tasks.base import Problem
from relax_rl.tasks.images.picture import Picture

__all__ = ["OpensImages"]

_MOST_KEPT = 4
"""Decoded images that stay for the next row: TRL reads the row of a prompt once for each of its completions."""


class OpensImages:
    """A transform of `datasets`, from digests in the column `images` to decoded images.

    Equal images of neighbouring rows are one object, so that what looks at images can look at each once.
    """

    def __init__(self) -> None:
        self._pictures: dict[str, Picture] = {}
        self._kept: OrderedDict[str, Image] = OrderedDict()

    @property
    def is_needed(self) -> bool:
        """Whether any problem shows an image."""
        return bool(self._pictures)

    def columns(self, problem: Problem) -> dict[str, Any]:
        """The columns of a problem's images, in the order in which the prompt shows them."""
        named = dict(zip((picture.identity for picture in problem.pictures), problem.image_names, strict=True))
        shown = [part for part in problem.parts if not isinstance(part, str)]
        digests = [hashlib.blake2b(part.identity, digest_size=16).hexdigest() for part in shown]
        self._pictures.update(zip(digests, shown, strict=True))
        return {"images": digests, "image_names": [named[part.identity] for part in shown]}

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Rows with their images decoded, and without the nulls that Arrow puts into parts of a prompt."""
        changed = dict(batch)
        if "images" in batch:
            changed["images"] = [[self._open(digest) for digest in row or []] for row in batch["images"]]
        if "prompt" in batch:
            changed["prompt"] = [_without_nulls(prompt) for prompt in batch["prompt"]]
        return changed

    def _open(self, digest: str) -> Image:
        if digest not in self._kept:
            self._kept[digest] = self._pictures[digest].open()
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return self._kept[digest]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
