"""A rectangular prism in oblique projection: its edges, surface and volume, and each of them backwards."""

from __future__ import annotations

import itertools
import math
import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import length_of, nearest, texts_of
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Prism"]

_DEPTH = 0.5
"""Edges into the depth are drawn at 45 degrees and half as long."""
_GIVEN = ("all edges together", "surface", "volume")
_UNKNOWN = "?"


class Prism(Kind):
    """``shown``: length, width and height; of a backward question, also what is given, and which side is not.

    Questions 0 to 2 ask for the total length of the edges, 4(L + W + H), for the surface and for the volume; 3 to 5
    give one of these below the drawing and ask for a side.
    """

    name = "prism"
    questions = ("edges", "surface", "volume", "side by edges", "side by surface", "side by volume")

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        sides = tuple(rng.randint(2, 9) for _ in range(3))
        return Values(ask, sides, (rng.randrange(3),) if ask > 2 else ())

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        if values.ask > 2:
            given = ("total length of all edges", "surface area", "volume")[values.ask - 3]
            return f"The {given} of the rectangular prism is given. How long is the edge marked with a question mark?"
        asked = ("total length of all edges", "surface area", "volume")[values.ask]
        return f"What is the {asked} of the rectangular prism?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        names = ("length", "width", "height")
        if values.ask < 3:
            sides = [f"{name} {side}" for name, side in zip(names, values.shown, strict=True)]
            return f"A rectangular prism has the {', '.join(sides)}."
        known = [place for place in range(3) if place != values.target[0]]
        sides = [f"{names[place]} {values.shown[place]}" for place in known]
        given = f"{_GIVEN[values.ask - 3]}: {_totals(values.shown)[values.ask - 3]}"
        return (
            f"A rectangular prism has the {' and '.join(sides)}; its {names[values.target[0]]} is marked with a "
            f"question mark. It has {given}."
        )

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        if values.ask < 3:
            return _totals(values.shown)[values.ask]
        given, (one, other) = _totals(values.shown)[values.ask - 3], self._known(values)
        if values.ask == 3:
            return given // 4 - one - other
        return (given // 2 - one * other) // (one + other) if values.ask == 4 else given // (one * other)

    def slip(self, values: Values) -> int:
        """Counts the nine edges or the three faces in sight, takes the surface for the volume, or undoes half of it."""
        length, width, height = values.shown
        if values.ask < 3:
            surface = 2 * (length * width + width * height + height * length)
            return (3 * (length + width + height), surface // 2, surface)[values.ask]
        given, (one, other) = _totals(values.shown)[values.ask - 3], self._known(values)
        if values.ask == 3:
            return given - one - other
        return (given - one * other) // (one + other) if values.ask == 4 else given // one

    def _known(self, values: Values) -> tuple[int, int]:
        one, other = (side for place, side in enumerate(values.shown) if place != values.target[0])
        return one, other

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        length, width, height = values.shown
        back = _DEPTH * width * math.sqrt(0.5)

        def at(x: int, y: int, z: int) -> Point:
            return x * length + y * back, z * height + y * back

        corners = list(itertools.product((0, 1), repeat=3))
        edges = [(a, b) for a, b in itertools.combinations(corners, 2) if sum(map(abs, _difference(a, b))) == 1]
        hidden = (0, 1, 0)
        lines = tuple(
            Line((at(*a), at(*b)), "hidden" if hidden in (a, b) else "outline", is_dashed=hidden in (a, b))
            for a, b in edges
        )
        words = [str(side) for side in values.shown]
        if values.ask > 2:
            words[values.target[0]] = _UNKNOWN
        texts = [
            Text(words[0], (length / 2, 0), "length", push=(0, -1), labels=True),
            Text(words[1], (length + back / 2, back / 2), "length", push=(1, -1), labels=True),
            Text(words[2], (0, height / 2), "length", push=(-1, 0), labels=True),
        ]
        if values.ask > 2:
            given = f"{_GIVEN[values.ask - 3]}: {_totals(values.shown)[values.ask - 3]}"
            texts.append(Text(given, ((length + back) / 2, -_below(values.shown)), "given"))
        return Scene(lines, tuple(texts), flips=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the lengths of the three labelled edges, those into the depth doubled, over all edges or faces."""
        sides, units = dict[str, float](), list[float]()
        for place, text in enumerate(texts_of(drawing, "length")):
            edge = nearest(drawing, text)
            is_deep = min(abs(edge[0][0] - edge[1][0]), abs(edge[0][1] - edge[1][1])) > 1e-6
            sides[f"{place}{text.words}"] = length_of(edge) / (_DEPTH if is_deep else 1.0)
            if text.words.isdecimal():
                units.append(sides[f"{place}{text.words}"] / int(text.words))
        scaled = {name: side / units[0] for name, side in sides.items()}
        if values.ask > 2:
            return next(side for name, side in scaled.items() if name.endswith(_UNKNOWN))
        if values.ask == 2:
            return math.prod(scaled.values())
        if values.ask == 1:
            return sum(a * b for a, b in itertools.permutations(scaled.values(), 2))
        edges = [segment for line in drawing.lines for segment in line.segments]
        deep = [min(abs(a[0] - b[0]), abs(a[1] - b[1])) > 1e-6 for a, b in edges]
        return sum(length_of(e) / (_DEPTH if d else 1.0) for e, d in zip(edges, deep, strict=True)) / units[0]


def _difference(first: tuple[int, ...], second: tuple[int, ...]) -> list[int]:
    return [a - b for a, b in zip(first, second, strict=True)]


def _totals(sides: tuple[int, ...]) -> tuple[int, int, int]:
    length, width, height = sides
    surface = 2 * (length * width + width * height + height * length)
    return 4 * (length + width + height), surface, length * width * height


def _below(sides: tuple[int, ...]) -> float:
    """How far under the figure the given total stands, in units: two lines of words in a picture of usual size."""
    length, width, height = sides
    return 0.22 * max(length + 0.36 * width, height + 0.36 * width)
