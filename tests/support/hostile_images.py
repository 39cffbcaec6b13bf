"""Images that people's folders hold, and what is wrong with them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

__all__ = ["HOSTILE", "SOUND", "encoded"]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(side: int = 64) -> Image.Image:
    return Image.effect_noise((side, side), 90)


def _damaged() -> bytes:
    data = bytearray(encoded(_noise()))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def _animated() -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def _huge() -> bytes:
    """A PNG of 20,000 x 20,000 pixels in some bytes: only its header is true."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "corrupt": (_damaged, "cannot be decoded"),
    "truncated_png": (lambda: encoded(_noise())[:-200], "cannot be decoded"),
    "truncated_jpeg": (lambda: encoded(_noise(), "JPEG")[:-400], "cannot be decoded"),
    "empty": (lambda: b"", "is empty"),
    "animated": (_animated, "has 3 frames"),
    "huge": (_huge, "too many pixels"),
    "flat": (lambda: encoded(Image.new("RGB", (600, 1))), "600 x 1 pixels"),
    "text": (lambda: b"this is no image", "is no image"),
}
"""By name: the bytes of the file, and words of the sentence that names it."""

SOUND: dict[str, Callable[[], bytes]] = {
    "palette": lambda: encoded(Image.new("P", (8, 8), 3)),
    "grey": lambda: encoded(Image.new("L", (8, 8), 3)),
    "alpha": lambda: encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))),
    "cmyk": lambda: encoded(Image.new("CMYK", (8, 8)), "JPEG"),
    "one_bit": lambda: encoded(Image.new("1", (8, 8))),
    "turned": lambda: encoded(Image.new("RGB", (8, 4)), "JPEG", exif=_turned()),
    "narrow": lambda: encoded(Image.new("RGB", (18, 180))),
    "single": lambda: encoded(Image.new("RGB", (1, 1))),
}
"""By name: the bytes of files that are unusual and fit to be shown."""


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return exif
