"""A clock and a dial."""

from __future__ import annotations

import math
import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import clockwise, length_of, one_line, texts_of
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Clock", "Dial"]

_ROUND = 60


def _around(radius: float, degrees: float) -> Point:
    """The point of a circle at so many degrees clockwise from its top."""
    return radius * math.sin(math.radians(degrees)), radius * math.cos(math.radians(degrees))


def _circle(radius: float, fill: str) -> Line:
    return Line(tuple(_around(radius, 360 * step / _ROUND) for step in range(_ROUND)), "face", True, fill)


class Clock(Kind):
    """``shown``: hour from 0 to 11, and minute; of level 1, a multiple of 5."""

    name = "clock"
    questions = ("minutes since 12", "hour", "minute")
    easy = (1, 2)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        return Values(ask, (rng.randrange(12), 5 * rng.randrange(12) if level == 1 else rng.randrange(60)))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        return (
            "How many minutes have passed since 12 o'clock on the clock?",
            "Which full hour, from 1 to 12, has the clock passed last?",
            "How many minutes have passed since the last full hour on the clock?",
        )[values.ask]

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        hour, minute = values.shown
        number, further = divmod(minute, 5)
        past = f"{further} minute marks past the {number or 12}" if further else f"at the {number or 12}"
        place = f"at the {hour or 12}" if minute == 0 else f"between the {hour or 12} and the {hour % 12 + 1}"
        return f"On a clock, the short hand stands {place}, and the long hand stands {past}."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        hour, minute = values.shown
        return (60 * hour + minute, hour or 12, minute)[values.ask]

    def slip(self, values: Values) -> int:
        """Takes one hand for the other."""
        hour, minute = values.shown
        return (60 * (minute // 5) + 5 * hour + minute // 12, minute // 5 or 12, 5 * hour + minute // 12)[values.ask]

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        hour, minute = values.shown
        marks = tuple(
            Line((_around(0.97 if mark % 5 else 0.92, 6 * mark), _around(1.0, 6 * mark)), "mark", weight=0.8)
            for mark in range(0, 60, 5 if is_small else 1)
        )
        numbers = tuple(
            Text(str(number), _around(0.79, 30 * number), "number") for number in range(1, 13) if not is_small
        )
        shorter = rng.uniform(0.4, 0.5)
        hands = (
            Line(((0, 0), _around(shorter, 30 * hour + minute / 2)), "hand", weight=2.2),
            Line(((0, 0), _around(rng.uniform(0.62, 0.68), 6 * minute)), "hand", weight=1.4),
        )
        return Scene((_circle(1.0, rng.choice(("", "tint"))), *marks, *hands), numbers)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the directions of the hands, the longer of which shows the minutes."""
        hands = [line.segments[0] for line in drawing.lines if line.role == "hand"]
        short, long = sorted(hands, key=length_of)
        # A hand straight up may be measured as a little less than 60 minutes.
        minute = (clockwise(*long) / 6 + 0.5) % 60 - 0.5
        hour = round((clockwise(*short) - minute / 2) / 30) % 12
        return (60 * hour + minute, hour or 12, minute)[values.ask]


class Dial(Kind):
    """``shown``: the first number, the step between numbers, small marks a step, numbers, and the mark of the hand."""

    name = "dial"
    questions = ("reading",)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """A small mark is worth 2 or more, and the hand is between two numbers: or the slip would be right."""
        marks = rng.choice((2, 4, 5))
        step = marks * rng.choice((2, 5, 10))
        start, numbers = step * rng.randrange(4), rng.randint(4, 7)
        position = rng.randrange(marks * (numbers - 1))
        return Values(ask, (start, step, marks, numbers, position + (position % marks == 0)))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        return "What is the reading of the dial?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        start, step, marks, numbers, position = values.shown
        named = ", ".join(str(start + step * place) for place in range(numbers))
        return (
            f"A dial has the numbers {named} at equal distances, and small marks divide each distance into {marks} "
            f"equal parts. Its hand stands {position % marks} small marks past {start + step * (position // marks)}."
        )

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        start, step, marks, _, position = values.shown
        return start + position * step // marks

    def slip(self, values: Values) -> int:
        """Counts each small mark as 1."""
        start, step, marks, _, position = values.shown
        return start + step * (position // marks) + position % marks

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """From 225 degrees on clockwise, over 270 degrees."""
        start, step, marks, numbers, position = values.shown
        every = 270 / (marks * (numbers - 1))
        ticks = tuple(
            Line((_around(0.95 if mark % marks else 0.88, 225 + every * mark), _around(1, 225 + every * mark)), "mark")
            for mark in range(marks * (numbers - 1) + 1)
        )
        words = tuple(
            Text(str(start + step * place), _around(0.72, 225 + every * marks * place), "number")
            for place in range(numbers)
        )
        hand = Line(((0, 0), _around(rng.uniform(0.5, 0.58), 225 + every * position)), "hand", weight=2)
        return Scene((_circle(1.08, rng.choice(("", "tint"))), *ticks, hand), words)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the direction of the hand between those of the first and the last number."""
        hand = one_line(drawing, "hand").segments[0]
        numbers = texts_of(drawing, "number")
        turns = [(clockwise(hand[0], text.at) - 180) % 360 for text in (numbers[0], numbers[-1])]
        first, last = int(numbers[0].words), int(numbers[-1].words)
        turn = (clockwise(*hand) - 180) % 360
        return first + (last - first) * (turn - turns[0]) / (turns[1] - turns[0])
