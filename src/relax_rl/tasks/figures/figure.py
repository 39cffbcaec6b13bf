"""A figure as the image of a problem: drawn and painted when it is used, so that a task holds no pixels."""

from __future__ import annotations

import functools
import hashlib
import random
import textwrap
from dataclasses import dataclass

from PIL.Image import Image

from relax_rl.tasks.base import digest
from relax_rl.tasks.figures.drawing import Drawing, Style, place
from relax_rl.tasks.figures.geometry import is_legible
from relax_rl.tasks.figures.kind import Values
from relax_rl.tasks.figures.kinds import KINDS
from relax_rl.tasks.figures.painting import described, paint
from relax_rl.tasks.images.picture import Picture

__all__ = ["SMALL", "Figure", "legible_figure"]

SMALL = 160
"""Pictures with a shorter side have few and large words."""
_TRIES = 40


@dataclass(frozen=True)
class Figure(Picture):
    """The values of a kind in one drawing of them.

    The identity is that of the drawing, not of its pixels, so that another version of PIL makes no other problem.

    Attributes:
        kind: one of `KINDS`.
        seed: seed of all that the values leave open.
        side: side of the square picture, in pixels.
        caption: words above the figure; "" for none.
    """

    kind: str
    values: Values
    seed: int
    side: int
    caption: str = ""
    name: str = ""

    @property
    def drawing(self) -> Drawing:
        """The lines and words, in pixels."""
        return _drawing(self)

    @property
    def size(self) -> tuple[int, int]:
        """See `Picture.size`."""
        return self.side, self.side

    @property
    def identity(self) -> bytes:
        """See `Picture.identity`."""
        return b"figure " + hashlib.blake2b(described(self.drawing).encode(), digest_size=16).digest()

    def open(self) -> Image:
        """See `Picture.open`; RGB."""
        return paint(self.drawing)


@functools.lru_cache(maxsize=32)
def _drawing(figure: Figure) -> Drawing:
    kind, rng = KINDS[figure.kind], random.Random(figure.seed)
    is_small = figure.side < SMALL
    style = Style.drawn(rng, is_small=is_small, may_be_dark=kind.may_be_dark)
    # A letter is about half as wide as it is high.
    width = int(figure.side / (0.52 * style.font * figure.side)) - 1
    caption = textwrap.wrap(figure.caption, width) if figure.caption else []
    return place(kind.scene(figure.values, rng, is_small=is_small), style, figure.side, caption)


def legible_figure(kind: str, values: Values, side: int, caption: str, *seed: str) -> Figure | None:
    """The first drawing of some tries whose words can all be read; None: none of them.

    Args:
        seed: words that the drawing follows from.
    """
    for attempt in range(_TRIES):
        figure = Figure(kind, values, digest(*seed, str(attempt)), side, caption)
        if is_legible(figure.drawing):
            return figure
    return None
