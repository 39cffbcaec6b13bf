"""Counting shapes by colour and form."""

from __future__ import annotations

import math
import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene
from relax_rl.tasks.figures.geometry import lines_of
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Counting"]

_COLOURS = ("red", "blue", "green", "orange")
_FORMS = ("circle", "square", "triangle")
_CIRCLE = 24


class Counting(Kind):
    """``shown``: how many of each form, colour by colour; ``target``: the colour and the form that are counted.

    Question 1 asks for all shapes of the colour.
    """

    name = "counting"
    questions = ("colour and form", "colour")
    easy = (0, 1)
    may_be_dark = False

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """Other shapes share the colour and the form of the target, so that both have to be looked at."""
        colours, most, others = (2, 4, 3) if level == 1 else (4, 9, 4)
        target = (rng.randrange(colours), rng.randrange(3))
        counts = [rng.randint(0, others) for _ in range(3 * colours)]
        counts[3 * target[0] + target[1]] = rng.randint(1, most)
        counts[3 * target[0] + (target[1] + 1) % 3] = rng.randint(1, others)
        counts[3 * ((target[0] + 1) % colours) + target[1]] = rng.randint(1, others)
        room = 12 if level == 1 else 40
        while sum(counts) > room:
            counts[rng.choice([place for place, count in enumerate(counts) if count > 1])] -= 1
        return Values(ask, tuple(counts), target if ask == 0 else target[:1])

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        colour = _COLOURS[values.target[0]]
        return f"How many {colour} {_FORMS[values.target[1]] if values.ask == 0 else 'shape'}s are there?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        counted = [
            f"{count} {_COLOURS[place // 3]} {_FORMS[place % 3]}{'s' * (count > 1)}"
            for place, count in enumerate(values.shown)
            if count
        ]
        return f"A picture shows {', '.join(counted)}."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        first = 3 * values.target[0]
        return values.shown[first + values.target[1]] if values.ask == 0 else sum(values.shown[first : first + 3])

    def slip(self, values: Values) -> int:
        """All of the colour, whatever their form; for a colour, all shapes."""
        first = 3 * values.target[0]
        return sum(values.shown[first : first + 3]) if values.ask == 0 else sum(values.shown)

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """Each shape in a cell of its own, off its middle."""
        shapes = [place for place, count in enumerate(values.shown) for _ in range(count)]
        cells = math.ceil(math.sqrt(max(len(shapes), 12 if len(values.shown) == 6 else 36)))
        places = rng.sample(range(cells * cells), len(shapes))
        lines: list[Line] = []
        for shape, place in zip(shapes, places, strict=True):
            radius = rng.uniform(0.26, 0.31)
            middle = (place % cells + 0.5 + rng.uniform(-0.06, 0.06), place // cells + 0.5 + rng.uniform(-0.06, 0.06))
            lines.append(Line(_shape(shape % 3, middle, radius, rng), "shape", True, _COLOURS[shape // 3], ink=""))
        # The frame keeps the scale: without it, few shapes would be drawn larger.
        frame = Line(((0, 0), (cells, 0), (cells, cells), (0, cells)), "frame", True, weight=0.5)
        return Scene((frame, *lines))

    def measured(self, drawing: Drawing, values: Values) -> float:
        """Shapes of the colour with the corners of the form."""
        corners = (_CIRCLE, 4, 3)
        colour = _COLOURS[values.target[0]]
        found = [line for line in lines_of(drawing, "shape") if line.fill == colour]
        return float(sum(values.ask == 1 or len(line.points) == corners[values.target[1]] for line in found))


def _shape(form: int, middle: Point, radius: float, rng: random.Random) -> tuple[Point, ...]:
    corners = (_CIRCLE, 4, 3)[form]
    first = rng.uniform(-0.15, 0.15) + (math.pi / 4 if form == 1 else math.pi / 2)
    directions = [first + 2 * math.pi * corner / corners for corner in range(corners)]
    # About the same area in all forms.
    reach = radius * (1.0, 1.25, 1.4)[form]
    return tuple((middle[0] + reach * math.cos(one), middle[1] + reach * math.sin(one)) for one in directions)
