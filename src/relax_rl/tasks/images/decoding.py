"""From encoded bytes to an image that a model can be given, with limits that hold before anything is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from relax_rl.errors import DataError

__all__ = ["MOST_ASPECT", "MOST_PIXELS", "decoded", "require_usable", "size_of"]

MOST_PIXELS = 100_000_000
"""The largest image of the benchmarks has 18.3 million; 100 million take 300 MB decoded."""
MOST_ASPECT = 200
"""Ratio of the long side to the short one; the processors of the Qwen family refuse from here on."""
_TURNED = (5, 6, 7, 8)
"""Orientations of EXIF that exchange width and height."""
_STILL = "MPO"
"""Cameras write a preview behind the photograph; PIL counts both as frames."""


def decoded(data: bytes, name: str) -> Image.Image:
    """The image in RGB, turned as its EXIF data say; transparent parts are white, as on a page.

    Raises:
        DataError: it is empty, cut short or no image, or `require_usable` refuses it.
    """
    with _opened(data, name) as image:
        require_usable(image, name)
        turned = ImageOps.exif_transpose(image)
        if not turned.has_transparency_data:
            return turned.convert("RGB")
        layer = turned.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        page.alpha_composite(layer)
        return page.convert("RGB")


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height as it is shown, from the header alone. Raises DataError for what is no image."""
    with _opened(data, name) as image:
        # To look for it in a PNG would decode the image.
        is_turned = image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        width, height = image.size
        return (height, width) if is_turned else (width, height)


def require_usable(image: Image.Image, name: str) -> None:
    """Check an open image and decode it.

    Raises:
        DataError: more than `MOST_PIXELS`, sides in a ratio of `MOST_ASPECT` or more, several frames, or data that
            cannot be decoded.
    """
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{_cap(name)} has {width} x {height} pixels; at most {MOST_PIXELS:,} are decoded.")
    if min(width, height) < 1 or max(width, height) >= MOST_ASPECT * min(width, height):
        raise DataError(
            f"{_cap(name)} has {width} x {height} pixels; one side may be {MOST_ASPECT - 1} times the other."
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != _STILL:
        raise DataError(f"{_cap(name)} has {frames} frames; give one still image.")
    with _faults(name):
        image.load()


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    if not data:
        raise DataError(f"{_cap(name)} is empty.")
    with _faults(name), warnings.catch_warnings():
        # Our own limit is lower than the one that warns; a warning a bomb would be noise.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data))
    with image:
        yield image


@contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{_cap(name)} is no image that can be read.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{_cap(name)} has too many pixels; at most {MOST_PIXELS:,} are decoded.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        # PIL's decoders raise any of these for damaged data.
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{_cap(name)} cannot be decoded: {words}.") from error


def _cap(name: str) -> str:
    return name if name == name.lower() and " " not in name else f"{name[:1].upper()}{name[1:]}"
