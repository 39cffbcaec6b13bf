"""A bar chart: a value, a difference, a rank, a sum."""

from __future__ import annotations

import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Scene, Text
from relax_rl.tasks.figures.geometry import axis_value, lines_of, texts_of
from relax_rl.tasks.figures.kind import Kind, Values, capital

__all__ = ["Bars"]


class Bars(Kind):
    """``shown``: what a mark of the axis is worth, and the heights of the bars, all different.

    ``target``: the bar of the question, by place.
    """

    name = "bars"
    questions = ("value", "difference", "rank", "sum")
    easy = (0, 1)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        number, worth = (3, 1) if level == 1 else (rng.randint(4, 6), rng.choice((1, 2, 5, 10)))
        heights = tuple(worth * height for height in rng.sample(range(1, 10), number))
        return Values(ask, (worth, *heights), (rng.randrange(number),) if ask in (0, 2) else ())

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        if values.ask == 0:
            return f"How high is bar {capital(values.target[0])}?"
        if values.ask == 2:
            return f"How many bars are higher than bar {capital(values.target[0])}?"
        return ("", "How much higher is the highest bar than the lowest bar?", "", "How high are all bars together?")[
            values.ask
        ]

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        bars = [f"{capital(place)} {height}" for place, height in enumerate(values.shown[1:])]
        return f"A chart has bars of these heights: {', '.join(bars)}."

    def answer(self, values: Values) -> int:
        """See `Kind.answer`."""
        return round(_asked(values, [float(height) for height in values.shown[1:]]))

    def slip(self, values: Values) -> int:
        """The next bar's value; the highest alone; counted from the other end; without the last bar."""
        heights = values.shown[1:]
        if values.ask == 0:
            return heights[(values.target[0] + 1) % len(heights)]
        if values.ask == 1:
            return max(heights)
        if values.ask == 2:
            return sum(height < heights[values.target[0]] for height in heights)
        return sum(heights[:-1])

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        worth, *heights = values.shown
        # In marks, so that a figure of any values has the same shape.
        tops = [height / worth for height in heights]
        width, fill = rng.uniform(0.5, 0.8), rng.choice(("tint", "red", "blue", "green", "orange", "purple"))
        bars = tuple(
            Line(((x, 0), (x + width, 0), (x + width, top), (x, top)), "bar", True, fill)
            for x, top in zip((place + 0.3 for place in range(len(tops))), tops, strict=True)
        )
        is_dashed = rng.random() < 0.5
        marks = tuple(
            Line(((0, mark), (len(tops) + 0.2, mark)), "mark", is_dashed=is_dashed, weight=0.5) for mark in range(1, 11)
        )
        axes = (Line(((0, 10), (0, 0), (len(tops) + 0.2, 0)), "axis"),)
        letters = tuple(
            Text(capital(place), (place + 0.3 + width / 2, 0), "letter", push=(0, -1)) for place in range(len(tops))
        )
        every = 5 if is_small else 2
        numbers = tuple(Text(str(worth * mark), (0, mark), "number", push=(-1, 0)) for mark in range(0, 11, every))
        return Scene((*marks, *bars, *axes), (*letters, *numbers), is_wide=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """From the tops of the bars beside the numbers of the axis; the letters say which is which."""
        heights: list[float] = []
        for letter in sorted(texts_of(drawing, "letter"), key=lambda text: text.words):
            bar = min(lines_of(drawing, "bar"), key=lambda line: abs(sum(x for x, _ in line.points) / 4 - letter.at[0]))
            top = min(y for _, y in bar.points)
            heights.append(axis_value(drawing, "number", top, across=False))
        return _asked(values, heights)


def _asked(values: Values, heights: list[float]) -> float:
    if values.ask == 0:
        return heights[values.target[0]]
    if values.ask == 1:
        return max(heights) - min(heights)
    return float(sum(height > heights[values.target[0]] for height in heights)) if values.ask == 2 else sum(heights)
