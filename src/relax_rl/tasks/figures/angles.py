"""Angles: in a triangle, on a line, between parallels."""

from __future__ import annotations

import math
import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import angle_at, texts_of
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Angles"]

_UNKNOWN = "?"


class Angles(Kind):
    """``shown``: two angles of a triangle; one or two on a line; at a crossing, and whether the other one equals it."""

    name = "angles"
    questions = ("triangle", "line", "parallels")

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """All angles are wide enough for their words."""
        while True:
            if ask == 0:
                shown = (rng.randint(35, 110), rng.randint(35, 110))
                fits = 35 <= 180 - sum(shown) != sum(shown)
            elif ask == 1:
                shown = tuple(rng.randint(35, 110) for _ in range(rng.randint(1, 2)))
                # The slip takes the line for a right angle, or for a whole turn where that is too small.
                fits = 180 - sum(shown) >= 35
            else:
                shown = (rng.choice([angle for angle in range(45, 136) if angle != 90]), rng.randrange(2))
                fits = True
            if fits:
                return Values(ask, (ask, *shown))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        where = ("in the triangle", "on the straight line", "at the two parallel lines")[values.ask]
        return f"How many degrees has the angle marked with a question mark {where}?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        first, *rest = values.shown[1:]
        if values.ask == 0:
            return f"A triangle has angles of {first} and {rest[0]} degrees, and one marked with a question mark."
        if values.ask == 1:
            named = " and ".join(str(angle) for angle in (first, *rest))
            return f"On one side of a straight line, the angles at a point are {named} degrees and a question mark."
        relation = "corresponding to" if rest[0] else "on the same side and inside, beside"
        return f"A line crosses two parallel lines. The angle marked with a question mark is {relation} one of {first}."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        first, *rest = values.shown[1:]
        if values.ask == 2:
            return first if rest[0] else 180 - first
        return 180 - first - sum(rest)

    def slip(self, values: Values) -> int:
        """Adds the two angles; takes the line for a whole turn; takes an equal angle for the other, or the reverse."""
        first, *rest = values.shown[1:]
        if values.ask == 2:
            return 180 - first if rest[0] else first
        return first + rest[0] if values.ask == 0 else 360 - first - sum(rest)

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        first, *rest = values.shown[1:]
        if values.ask == 0:
            return _triangle(first, rest[0])
        if values.ask == 1:
            return _fan([first, *rest], rng)
        return _parallels(first, bool(rest[0]))

    def measured(self, drawing: Drawing, values: Values) -> float:
        """Between the drawn rays beside the question mark."""
        (text,) = (text for text in texts_of(drawing, "angle") if text.words == _UNKNOWN)
        return angle_at(drawing, text)


def _at(centre: Point, radius: float, degrees: float) -> Point:
    return (
        centre[0] + radius * math.cos(math.radians(degrees)),
        centre[1] + radius * math.sin(math.radians(degrees)),
    )


def _marked(corner: Point, first: float, second: float, words: str, size: float) -> tuple[Line, Text]:
    """A small arc between two directions in degrees, and the words inside it."""
    arc = tuple(_at(corner, size, first + (second - first) * step / 12) for step in range(13))
    # Narrow angles hold their words further out.
    reach = size * (1.0 + 0.55 * (1 + 20 / (second - first)))
    return Line(arc, "arc", weight=0.7), Text(words, _at(corner, reach, (first + second) / 2), "angle")


def _triangle(first: int, second: int) -> Scene:
    third = 180 - first - second
    # A base of 1; the law of sines gives the side at the first angle.
    side = math.sin(math.radians(second)) / math.sin(math.radians(third))
    corners = ((0.0, 0.0), (1.0, 0.0), _at((0.0, 0.0), side, first))
    size = 0.11 * max(side, 1.0)
    marks = (
        _marked(corners[0], 0, first, f"{first}°", size),
        _marked(corners[1], 180 - second, 180, f"{second}°", size),
        _marked(corners[2], 180 + first, 180 + first + third, _UNKNOWN, size),
    )
    outline = Line(corners, "outline", is_closed=True)
    return Scene((outline, *(arc for arc, _ in marks)), tuple(text for _, text in marks), turns=True, flips=True)


def _fan(angles: list[int], rng: random.Random) -> Scene:
    every = [str(angle) for angle in angles]
    widths = [*angles, 180 - sum(angles)]
    words = [*(f"{angle}°" for angle in every), _UNKNOWN]
    order = rng.sample(range(len(widths)), len(widths))
    origin, start = (0.0, 0.0), 0.0
    lines, texts = [Line((origin, _at(origin, 1.0, 0.0)), "outline")], list[Text]()
    for place in order:
        arc, text = _marked(origin, start, start + widths[place], words[place], 0.25)
        start += widths[place]
        lines += [arc, Line((origin, _at(origin, 1.0, start)), "outline")]
        texts.append(text)
    return Scene(tuple(lines), tuple(texts), turns=True, flips=True)


def _parallels(angle: int, is_equal: bool) -> Scene:
    low, step = (0.0, 0.0), 1.0
    high = _at(low, step / math.sin(math.radians(angle)), angle)
    lines: list[Line] = []
    for corner in (low, high):
        lines += [
            Line((corner, (corner[0] - 1.1, corner[1])), "outline"),
            Line((corner, (corner[0] + 1.1, corner[1])), "outline"),
        ]
    lines += [
        Line((low, high), "outline"),
        Line((low, _at(low, 0.6, angle + 180)), "outline"),
        Line((high, _at(high, 0.6, angle)), "outline"),
    ]
    given = _marked(low, 0, angle, f"{angle}°", 0.2)
    asked = _marked(high, 0, angle, _UNKNOWN, 0.2) if is_equal else _marked(high, angle - 180, 0, _UNKNOWN, 0.2)
    return Scene((*lines, given[0], asked[0]), (given[1], asked[1]), turns=True, flips=True)
