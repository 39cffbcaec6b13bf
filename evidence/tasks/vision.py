"""A task that must be seen: countdown whose numbers are in an image, each problem drawn in several variants.

The words of a problem are its target, `>14:`; the completion is that of countdown. Variants of one problem (after
DynaMath, arXiv 2411.00836) show the same numbers in another order, at other places, in other colours and another font.
The task is ``--task evidence.tasks.vision:ShownCountdownTask`` from the repository's root;
evidence/policies/vision_policy.py builds its starting policy.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier
from relax_rl.tasks.base import Problem, digest
from relax_rl.tasks.countdown import CountdownTask

CELL, CELLS = 8, 4
"""An image is a square of CELLS x CELLS cells of CELL x CELL pixels; a cell holds a digit or nothing."""
SIDE = CELL * CELLS

# Rows of five bits, from the top.
_DOTS = (
    (0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E),
    (0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E),
    (0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F),
    (0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E),
    (0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02),
    (0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E),
    (0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E),
    (0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08),
    (0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E),
    (0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C),
)
# The seven strokes of a pocket calculator, as rows and columns, and which of them make a digit.
_STROKES = {
    "a": (slice(0, 1), slice(0, 5)),
    "b": (slice(0, 4), slice(4, 5)),
    "c": (slice(3, 7), slice(4, 5)),
    "d": (slice(6, 7), slice(0, 5)),
    "e": (slice(3, 7), slice(0, 1)),
    "f": (slice(0, 4), slice(0, 1)),
    "g": (slice(3, 4), slice(0, 5)),
}
_SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def _dotted(digit: int) -> np.ndarray:
    return np.array([[bits >> (4 - column) & 1 for column in range(5)] for bits in _DOTS[digit]], dtype=bool)


def _segmented(digit: int) -> np.ndarray:
    glyph = np.zeros((7, 5), dtype=bool)
    for stroke in _SEGMENTS[digit]:
        glyph[_STROKES[stroke]] = True
    return glyph


FONTS = tuple(tuple(draw(digit) for digit in range(10)) for draw in (_dotted, _segmented))


@dataclass(frozen=True)
class Drawing:
    """An image of numbers, and what stands in its cells, row by row: a digit or a space each."""

    image: Image.Image
    cells: str


def draw(numbers: tuple[int, ...], rng: random.Random) -> Drawing:
    """Each number on a row of its own and off the left edge, so that no two touch in reading order."""
    numbers = tuple(rng.sample(numbers, len(numbers)))
    ink, paper = _colours(rng)
    glyphs = rng.choice(FONTS)
    pixels = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[:] = paper
    cells = [[" "] * CELLS for _ in range(CELLS)]
    for row, number in zip(sorted(rng.sample(range(CELLS), len(numbers))), numbers, strict=True):
        text = str(number)
        first = rng.randint(1, CELLS - len(text))
        for column, digit in enumerate(text, start=first):
            cells[row][column] = digit
            top, left = row * CELL + rng.randint(0, 1), column * CELL + rng.randint(0, 3)
            pixels[top : top + 7, left : left + 5][glyphs[int(digit)]] = ink
    return Drawing(Image.fromarray(pixels), "".join(map("".join, cells)))


def _colours(rng: random.Random) -> list[tuple[int, ...]]:
    """A dark and a light colour, in either order."""
    dark = tuple(rng.randint(0, 90) for _ in range(3))
    light = tuple(rng.randint(165, 255) for _ in range(3))
    return rng.sample([dark, light], 2)


@dataclass(frozen=True)
class ShownCountdownTask:
    """Countdown of three numbers; ``test`` has ``variants`` drawings of each problem, side by side, ``train`` one.

    A problem is called as in countdown, with ``-v0``, ``-v1``, ... behind; the variants of a problem have one answer.
    """

    variants: int = 4
    name: str = field(default="shown_countdown", init=False)
    verifier: Verifier = field(default_factory=CountdownVerifier, init=False, compare=False, repr=False)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` of "train" (2048 without a count) or "test" (128)."""
        variants = self.variants if split == "test" else 1
        count = {"train": 2048, "test": 128}.get(split, 0) if count is None else count
        bases = CountdownTask().problems(split, -(-count // variants), seed)
        return [shown(base, variant) for base in bases for variant in range(variants)][:count]


def shown(base: Problem, variant: int) -> Problem:
    """A problem of countdown with its numbers drawn; the same drawing every time."""
    gold = CountdownAnswer.parse(base.answer)
    if gold is None:
        raise DataError(f"The problem {base.id!r} is none of countdown: its answer is {base.answer!r}.")
    rng = random.Random(digest("shown", base.id, str(variant)))
    image = draw(gold.numbers, rng).image
    words = f">{gold.target}:"
    return replace(base, id=f"{base.id}-v{variant}", prompt=words, instruction=words, images=(image,))


def base_of(problem_id: str) -> str:
    """The name of the problem that a variant shows."""
    return problem_id.rpartition("-v")[0]
