"""How many pixels of an image a model is shown: larger and smaller images are resized, whatever their family does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL.Image import Image, Resampling

from relax_rl.errors import ConfigError
from relax_rl.tasks.images.decoding import MOST_PIXELS
from relax_rl.tasks.images.picture import Picture

__all__ = ["PixelBudget"]

_RESIZABLE = ("RGB", "RGBA", "L", "LA")
"""Modes whose neighbouring values may be averaged; a palette's may not."""


@dataclass(frozen=True)
class PixelBudget:
    """Bounds on the pixels of an image, width times height. Its sides keep their ratio, up to rounding.

    Where both bounds cannot hold by rounding, the upper one does. A model's processor resizes afterwards, as it always
    does.

    Attributes:
        least: an image of fewer pixels is enlarged; None: none is.
        most: an image of more pixels is made smaller; None: none is.

    Raises:
        ConfigError: a bound below 1, a lower one of more pixels than an image may have, or bounds that exclude each
            other.
    """

    least: int | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        for name, bound in (("min_pixels", self.least), ("max_pixels", self.most)):
            if bound is not None and bound < 1:
                raise ConfigError(f"{name} is {bound}; give a number of pixels, at least 1.")
        if self.least is not None and self.least > MOST_PIXELS:
            raise ConfigError(
                f"min_pixels is {self.least}, and no image of more than {MOST_PIXELS} is ever shown; give fewer pixels."
            )
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ConfigError(f"min_pixels = {self.least} is above max_pixels = {self.most}; exchange them.")

    @property
    def is_open(self) -> bool:
        """Whether every image stays as it is."""
        return self.least is None and self.most is None

    def of(self, picture: Picture) -> Picture:
        """The image within these bounds, not decoded yet."""
        return picture if self.is_open else _Within(picture, self)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height within these bounds."""
        pixels = width * height
        if self.most is not None and pixels > self.most:
            scale = math.sqrt(self.most / pixels)
            # Of a long, thin image the short side cannot fall below one pixel.
            width, height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
            return min(width, self.most), min(height, self.most)
        if self.least is not None and pixels < self.least:
            scale = math.sqrt(self.least / pixels)
            larger = math.ceil(width * scale), math.ceil(height * scale)
            if self.most is None or larger[0] * larger[1] <= self.most:
                return larger
            return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        return width, height


@dataclass(frozen=True)
class _Within(Picture):
    """An image within bounds, resized each time that it is opened."""

    inner: Picture
    budget: PixelBudget

    @property
    def name(self) -> str:
        """See `Picture.name`."""
        return self.inner.name

    @property
    def size(self) -> tuple[int, int]:
        """See `Picture.size`."""
        return self.budget.size(*self.inner.size)

    @property
    def identity(self) -> bytes:
        """See `Picture.identity`; that of the image itself where it is shown as it is."""
        size = self.size
        if size == self.inner.size:
            return self.inner.identity
        return f"resized {size} ".encode() + self.inner.identity

    def open(self) -> Image:
        """See `Picture.open`."""
        image = self.inner.open()
        size = self.budget.size(*image.size)
        if size == image.size:
            return image
        return (image if image.mode in _RESIZABLE else image.convert("RGB")).resize(size, Resampling.BICUBIC)
