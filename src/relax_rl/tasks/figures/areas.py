"""Areas: rectangle, triangle, trapezoid, an L and a sector."""

from __future__ import annotations

import math
import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import area, length_of, one_line, pixels_a_unit
from relax_rl.tasks.figures.kind import Kind, Values
from relax_rl.tasks.figures.perimeter import side_labels

__all__ = ["Area"]

_NAMES = ("rectangle", "triangle", "trapezoid", "L", "sector")
_SECTORS = tuple(
    (radius, angle) for radius in range(2, 16) for angle in range(30, 331, 15) if radius * radius * angle % 360 == 0
)
_ARC = 90


class Area(Kind):
    """``shown``: the form and its lengths; of the sector, its radius and its angle."""

    name = "area"
    questions = _NAMES

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        if ask == 0:
            wide = rng.randint(3, 15)
            lengths = (wide, rng.choice([high for high in range(2, 16) if 2 * (wide + high) != wide * high]))
        elif ask == 1:
            base = rng.randint(4, 16)
            lengths = (base, rng.randrange(4, 17, 1 if base % 2 == 0 else 2))
        elif ask == 2:
            bottom = rng.randint(7, 16)
            top = rng.randint(3, bottom - 2)
            lengths = (bottom, top, rng.randrange(4, 13, 1 if (bottom + top) % 2 == 0 else 2))
        elif ask == 3:
            wide, high = rng.randint(6, 14), rng.randint(6, 14)
            lengths = (wide, high, rng.randint(2, wide - 2), rng.randint(2, high - 2))
        else:
            lengths = rng.choice(_SECTORS)
        return Values(ask, (ask, *lengths))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        if values.ask == 4:
            return "The area of the sector is a whole multiple of pi. How many times pi is it?"
        if values.ask == 3:
            return "All angles of the figure are right angles. What is its area?"
        return f"What is the area of the {_NAMES[values.ask]}?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        lengths = values.shown[1:]
        if values.ask == 0:
            return "A rectangle has sides of {} and {}.".format(*lengths)
        if values.ask == 1:
            return "A triangle has a base of {} and a height of {}.".format(*lengths)
        if values.ask == 2:
            return "A trapezoid has parallel sides of {} and {} and a height of {}.".format(*lengths)
        if values.ask == 3:
            return "From a corner of a rectangle of {} by {}, a rectangle of {} by {} is cut out.".format(*lengths)
        return "A sector of a circle has a radius of {} and an angle of {} degrees.".format(*lengths)

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        lengths = values.shown[1:]
        if values.ask == 2:
            return (lengths[0] + lengths[1]) * lengths[2] // 2
        if values.ask == 3:
            return lengths[0] * lengths[1] - lengths[2] * lengths[3]
        if values.ask == 4:
            return lengths[0] ** 2 * lengths[1] // 360
        return lengths[0] * lengths[1] // (2 if values.ask == 1 else 1)

    def slip(self, values: Values) -> int:
        """The perimeter; without the half; the L without its notch; the whole circle."""
        lengths = values.shown[1:]
        if values.ask == 0:
            return 2 * sum(lengths)
        if values.ask == 2:
            return (lengths[0] + lengths[1]) * lengths[2]
        return lengths[0] ** 2 if values.ask == 4 else lengths[0] * lengths[1]

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        fill = rng.choice(("", "tint"))
        if values.ask == 4:
            return _sector(values.shown[1], values.shown[2], fill)
        if values.ask == 3:
            wide, high, in_wide, in_high = values.shown[1:]
            corners: tuple[Point, ...] = (
                (0, 0), (wide, 0), (wide, high - in_high), (wide - in_wide, high - in_high), (wide - in_wide, high),
                (0, high),
            )  # fmt: skip
            return Scene((Line(corners, "outline", True, fill),), side_labels(corners), turns=True, flips=True)
        if values.ask == 0:
            wide, high = values.shown[1:]
            corners = ((0, 0), (wide, 0), (wide, high), (0, high))
            texts = (_below(wide), Text(str(high), (wide, high / 2), "length", push=(1, 0), labels=True))
            return Scene((Line(corners, "outline", True, fill),), texts, turns=True, flips=True)
        bottom, top, high = (values.shown[1], 0, values.shown[2]) if values.ask == 1 else values.shown[1:]
        left = rng.uniform(0.2, 0.8) * (bottom - top)
        foot = left + 0.85 * top
        corners = (
            ((0, 0), (bottom, 0), (left + top, high), (left, high)) if top else ((0, 0), (bottom, 0), (left, high))
        )
        lines = (Line(corners, "outline", True, fill), Line(((foot, 0), (foot, high)), "height", is_dashed=True))
        above = (Text(str(top), (left + 0.4 * top, high), "length", push=(0, 1), labels=True),) if top else ()
        up = Text(str(high), (foot, 0.35 * high), "length", push=(1, 0), labels=True)
        return Scene(lines, (_below(bottom), up, *above), turns=True, flips=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """The area inside the drawn outline; of a sector, from its drawn radius and angle."""
        unit = pixels_a_unit(drawing)
        outline = one_line(drawing, "outline")
        if values.ask != 4:
            return area(outline.points) / unit**2
        radius = length_of(outline.segments[0]) / unit
        # Twice the area of a thin triangle of the arc is radius^2 times the sine of its angle.
        centre, first, second = outline.points[:3]
        step = math.asin(2 * area((centre, first, second)) / length_of(outline.segments[0]) ** 2)
        return radius**2 * step * (len(outline.points) - 2) / (2 * math.pi)


def _below(length: int) -> Text:
    return Text(str(length), (length / 2, 0), "length", push=(0, -1), labels=True)


def _sector(radius: int, angle: int, fill: str) -> Scene:
    directions = [math.radians(angle * step / _ARC) for step in range(_ARC + 1)]
    arc = tuple((radius * math.cos(one), radius * math.sin(one)) for one in directions)
    half = math.radians(angle / 2)
    reach = radius * (0.65 if angle < 60 else 0.42)
    inside = Text(f"{angle}°", (reach * math.cos(half), reach * math.sin(half)), "angle")
    along = Text(str(radius), (radius / 2, 0), "length", push=(0, -1), labels=True)
    return Scene((Line(((0.0, 0.0), *arc), "outline", True, fill),), (along, inside), turns=True, flips=True)
