"""Small copies of the images that a run's completions are about, kept beside them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

__all__ = ["ThumbnailFolder"]


class ThumbnailFolder:
    """Encoded images by the names that records have for them.

    Args:
        path: path of the folder; made with the first image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _file(self, name: str) -> Path:
        # A name may be a path or hold any sign.
        return self.path / hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    def has(self, name: str) -> bool:
        """Whether the image is there."""
        return self._file(name).is_file()

    def write(self, name: str, data: bytes) -> None:
        """Keep an image, whole or not at all. What cannot be written is left out: a page shows its name instead."""
        file = self._file(name)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.path.mkdir(exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, file)

    def read(self, name: str) -> bytes | None:
        """The encoded image; None where there is none."""
        try:
            return self._file(name).read_bytes()
        except OSError:
            return None
