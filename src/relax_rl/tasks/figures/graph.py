"""The graph of a function: its zeros, its period, its highest point."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import axis_value, one_line
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Graph"]

_POINTS = 240
_WIDE, _TOP = 12, 8
"""The axis across runs from 0 to 12, and the one upwards at most from -8 to 8."""


class Graph(Kind):
    """``shown``: the zeros in quarters; the period and the first zero in quarters; the place and height of the top."""

    name = "graph"
    questions = ("zeros", "period", "highest")
    easy = (0,)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        if ask == 0:
            zeros, number = [rng.randint(3, 7)], rng.randint(2, 4 if level == 1 else 6)
            while len(zeros) < number:
                zeros.append(zeros[-1] + rng.randint(6 if level == 2 else 8, 8 if level == 2 else 11))
            return Values(ask, (ask, rng.randrange(2), *zeros))
        if ask == 1:
            period = rng.choice((2, 4, 6, 8))
            # Two crossings upwards are in the picture, the first of them behind the axis.
            return Values(ask, (ask, period, rng.randrange(1, 4 * min(period, _WIDE - period)), rng.randint(2, 6)))
        place = rng.randint(2, _WIDE - 2)
        return Values(ask, (ask, place, rng.choice([height for height in range(3, _TOP) if height != place])))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        return (
            "How many zeros has the function in the graph?",
            "What is the period of the function in the graph?",
            "At which x is the function in the graph highest?",
        )[values.ask]

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        if values.ask == 0:
            zeros = ", ".join(f"{zero / 4:g}" for zero in values.shown[2:])
            return f"The graph of a function crosses the x axis at {zeros} and nowhere else."
        if values.ask == 1:
            period, first = values.shown[1], values.shown[2] / 4
            return f"The graph of a sine crosses the x axis upwards at {first:g} and next at {first + period:g}."
        place, height = values.shown[1:]
        return f"The graph of a function rises up to the point ({place}, {height}) and falls from there on."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        return len(values.shown) - 2 if values.ask == 0 else values.shown[1]

    def slip(self, values: Values) -> int:
        """Counts the turning points between the zeros; takes half a wave for a period; gives the height."""
        if values.ask == 0:
            return len(values.shown) - 3
        return values.shown[1] // 2 if values.ask == 1 else values.shown[2]

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        function = (_waves, _sine, _hill)[values.ask](values.shown, rng)
        points = [(_WIDE * step / _POINTS, function(_WIDE * step / _POINTS)) for step in range(_POINTS + 1)]
        top = max(max(y for _, y in points), 1.0)
        bottom = min(min(y for _, y in points), 0.0)
        curve = Line(tuple(points), "curve", ink=rng.choice(("ink", "red", "blue", "purple")), weight=1.6)
        axes = (
            Line(((0, 0), (_WIDE + 0.4, 0)), "axis"),
            Line(((0, bottom - 0.3), (0, top + 0.5)), "axis"),
        )
        reach = 0.02 * (top - bottom)
        marks = tuple(Line(((x, -reach), (x, reach)), "mark", weight=0.7) for x in range(1, _WIDE + 1) if not is_small)
        numbers = tuple(
            Text(str(x), (x, 0), "number", push=(0, -1), size=0.8, has_halo=True)
            for x in range(2, _WIDE + 1, 2)
            if not is_small
        )
        heights = tuple(
            Text(str(y), (0, y), "height", push=(-1, 0), size=0.8, has_halo=True)
            for y in range(2, _TOP + 1, 2)
            if y <= top
        )
        return Scene((*axes, *marks, curve), (*numbers, *(() if is_small else heights)), is_wide=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the drawn curve: where it crosses the drawn axis, and where it is highest."""
        points = one_line(drawing, "curve").points
        level = next(line for line in drawing.lines if line.role == "axis").points[0][1]
        if values.ask == 2:
            return axis_value(drawing, "number", min(points, key=lambda point: point[1])[0], across=True)
        crossed = [(a, b) for a, b in itertools.pairwise(points) if (a[1] > level) != (b[1] > level)]
        if values.ask == 0:
            return float(len(crossed))
        upwards = [
            axis_value(drawing, "number", _crossing(a, b, level), across=True) for a, b in crossed if a[1] > b[1]
        ]
        return upwards[1] - upwards[0]


def _crossing(first: Point, second: Point, level: float) -> float:
    share = (level - first[1]) / (second[1] - first[1])
    return first[0] + share * (second[0] - first[0])


def _waves(shown: tuple[int, ...], rng: random.Random) -> Callable[[float], float]:
    """Half waves between the zeros, as high as they are wide, so that the slope has no jump."""
    sign = 1.0 if shown[1] else -1.0
    zeros = [zero / 4 for zero in shown[2:]]
    factor = rng.uniform(1.2, 1.8)
    # On and on outside the zeros: another half wave would come back to the axis.
    reach = 0.6 * (zeros[1] - zeros[0])

    def function(x: float) -> float:
        if x <= zeros[0]:
            return sign * factor * math.pi * reach * math.tanh((zeros[0] - x) / reach)
        for place, (a, b) in enumerate(itertools.pairwise(zeros), start=1):
            if x <= b:
                return sign * (-1) ** place * factor * (b - a) * math.sin(math.pi * (x - a) / (b - a))
        return sign * (-1) ** len(zeros) * factor * math.pi * reach * math.tanh((x - zeros[-1]) / reach)

    return function


def _sine(shown: tuple[int, ...], rng: random.Random) -> Callable[[float], float]:
    _, period, first, height = shown
    return lambda x: height * math.sin(2 * math.pi * (x - first / 4) / period)


def _hill(shown: tuple[int, ...], rng: random.Random) -> Callable[[float], float]:
    _, place, height = shown
    width = rng.uniform(1.5, 3.0)
    return lambda x: height * math.exp(-(((x - place) / width) ** 2))
