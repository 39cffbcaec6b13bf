"""One image of a problem: pixels that a task holds, or the encoded bytes of a file, a table or the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from PIL.Image import Image

from relax_rl.errors import DataError
from relax_rl.tasks.images.decoding import decoded, require_usable, size_of

__all__ = ["Picture", "Pixels", "Stored", "as_picture", "file_picture"]


class Picture:
    """An image that is opened when it is used. Nothing of it stays open or decoded in between.

    Attributes:
        name: place of the image: the path of a file, or a table with its row; "" for pixels in memory.
    """

    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels. Raises DataError for a file that is no image."""
        raise NotImplementedError

    @property
    def identity(self) -> bytes:
        """Bytes that differ for different images."""
        raise NotImplementedError

    def open(self) -> Image:
        """The decoded image. Raises DataError, with the name, for an image that no model should be given."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pixels(Picture):
    """An image that the task itself holds or has opened; the model is given it unchanged."""

    image: Image
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """See `Picture.size`."""
        return self.image.size

    @property
    def identity(self) -> bytes:
        """Mode, size and pixels, whatever file or object holds them."""
        return f"{self.image.mode} {self.image.size} ".encode() + self.image.tobytes()

    def open(self) -> Image:
        """See `Picture.open`."""
        require_usable(self.image, self.name or "the image")
        return self.image


@dataclass(frozen=True)
class Stored(Picture):
    """An encoded image, read again at each use.

    Args:
        read: returns the encoded bytes (PNG, JPEG, ...).
        name: place of the bytes, for errors and records.
    """

    read: Callable[[], bytes] = field(compare=False, repr=False)
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """See `Picture.size`; only the header is decoded."""
        return size_of(self._bytes(), self.name)

    @property
    def identity(self) -> bytes:
        """A digest of the encoded bytes, so that it depends on no decoder."""
        return b"stored " + hashlib.blake2b(self._bytes(), digest_size=16).digest()

    def open(self) -> Image:
        """See `Picture.open`; RGB, turned as the camera says, transparent parts white."""
        return decoded(self._bytes(), self.name)

    def _bytes(self) -> bytes:
        try:
            return self.read()
        except OSError as error:
            raise DataError(f"The image '{self.name}' cannot be read: {error.strerror or error}.") from error


def file_picture(path: str | Path) -> Stored:
    """The image in a file, which is opened for no longer than it is read."""
    return Stored(Path(path).read_bytes, str(path))


def as_picture(image: Any, folder: Path | None = None, name: str = "an image") -> Picture:
    """An image in any form that a task or a table gives, as a `Picture`.

    Args:
        image: a PIL image, a `Picture`, a path, encoded bytes, or the Hub's mapping of ``bytes`` and ``path``.
        folder: start of relative paths; None: the working directory.
        name: name of bytes without a path, for errors.

    Raises:
        DataError: anything else.
    """
    if isinstance(image, Image):
        return Pixels(image)
    if isinstance(image, Picture):
        return image
    if isinstance(image, (str, Path)) and str(image):
        return file_picture(image if folder is None else folder / image)
    if isinstance(image, bytes):
        return Stored(lambda: image, name)
    if isinstance(image, Mapping):
        given = cast("Mapping[str, Any]", image)
        content = given.get("bytes")
        return as_picture(given.get("path") if content is None else content, folder, name)
    raise DataError(f"{name[0].upper()}{name[1:]} is {image!r:.60}; give a PIL image, a path or encoded bytes.")
