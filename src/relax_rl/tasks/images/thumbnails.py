"""Small copies of images, for records that people read."""

from __future__ import annotations

import io

from PIL.Image import Image, Resampling

__all__ = ["SIDE", "thumbnail"]

SIDE = 128
"""Side of the square in which a thumbnail lies, in pixels."""


def thumbnail(image: Image, side: int = SIDE) -> bytes:
    """An encoded copy that fits into a square: PNG for drawings of few colours, JPEG where that is smaller."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Resampling.LANCZOS)
    encoded: list[bytes] = []
    for options in ({"format": "PNG", "optimize": True}, {"format": "JPEG", "quality": 75}):
        buffer = io.BytesIO()
        small.save(buffer, **options)
        encoded.append(buffer.getvalue())
    return min(encoded, key=len)
