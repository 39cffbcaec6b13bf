"""Perimeters of rectilinear figures of which one side has no label."""

from __future__ import annotations

import random

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Scene, Text
from relax_rl.tasks.figures.geometry import length_of, one_line, pixels_a_unit
from relax_rl.tasks.figures.kind import Kind, Values

__all__ = ["Perimeter", "side_labels"]

_FORMS = ("L", "T", "U", "stairs")
_NUM_LENGTHS = (4, 5, 5, 6)


def side_labels(corners: tuple[Point, ...], left_out: int | None = None) -> tuple[Text, ...]:
    """The length of each side of a rectilinear polygon, outside it, its corners given counterclockwise."""
    labels: list[Text] = []
    for place, (a, b) in enumerate(zip(corners, corners[1:] + corners[:1], strict=True)):
        length = abs(b[0] - a[0]) + abs(b[1] - a[1])
        if place != left_out:
            middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
            labels.append(Text(str(round(length)), middle, "length", push=(b[1] - a[1], a[0] - b[0]), labels=True))
    return tuple(labels)


class Perimeter(Kind):
    """``shown``: the form, the place of the side without a label, and the lengths of the form."""

    name = "perimeter"
    questions = ("perimeter",)

    def draw(self, ask: int, level: int, rng: random.Random) -> Values:
        """See `Kind.draw`."""
        form = rng.randrange(len(_FORMS))
        if form == 0:
            wide, high = rng.randint(6, 16), rng.randint(6, 16)
            lengths = (wide, high, rng.randint(2, wide - 2), rng.randint(2, high - 2))
        elif form == 2:
            high = rng.randint(6, 14)
            lengths = (*(rng.randint(3, 8) for _ in range(3)), high, rng.randint(3, high - 2))
        else:
            lengths = tuple(rng.randint(3, 8) for _ in range(_NUM_LENGTHS[form]))
        values = (form, 0, *lengths)
        return Values(ask, (form, rng.randrange(len(_corners(values))), *lengths))

    def words(self, values: Values) -> str:
        """See `Kind.words`."""
        return "All angles of the figure are right angles. What is its perimeter?"

    def described(self, values: Values) -> str:
        """See `Kind.described`."""
        sides = [str(length) if length else "unknown" for length in _sides(values.shown)]
        return f"Going once around the figure, its sides are: {', '.join(sides)}."

    def answer(self, values: Values) -> int:
        """Twice the width and the height of the box around it; the U has the two sides of its gap besides."""
        form, _, *lengths = values.shown
        if form == 0:
            wide, high, _, _ = lengths
            return 2 * (wide + high)
        if form == 1:
            left, stem, right, bar, down = lengths
            return 2 * (left + stem + right + bar + down)
        if form == 2:
            left, gap, right, high, deep = lengths
            return 2 * (left + gap + right + high) + 2 * deep
        return 2 * sum(lengths)

    def slip(self, values: Values) -> int:
        """Adds only the sides with a label."""
        return sum(_sides(values.shown))

    def scene(self, values: Values, rng: random.Random, *, is_small: bool) -> Scene:
        """See `Kind.scene`."""
        corners = _corners(values.shown)
        outline = Line(corners, "outline", is_closed=True, fill=rng.choice(("", "tint")))
        return Scene((outline,), side_labels(corners, values.shown[1]), turns=True, flips=True)

    def measured(self, drawing: Drawing, values: Values) -> float:
        """The way around the drawn outline."""
        way = sum(length_of(segment) for segment in one_line(drawing, "outline").segments)
        return way / pixels_a_unit(drawing)


def _corners(shown: tuple[int, ...]) -> tuple[Point, ...]:
    """Counterclockwise, from the bottom left."""
    form, _, *lengths = shown
    if form == 0:
        wide, high, in_wide, in_high = lengths
        return (
            (0, 0), (wide, 0), (wide, high - in_high), (wide - in_wide, high - in_high), (wide - in_wide, high),
            (0, high),
        )  # fmt: skip
    if form == 1:
        left, stem, right, bar, down = lengths
        wide, high = left + stem + right, bar + down
        return (
            (left, 0), (left + stem, 0), (left + stem, down), (wide, down), (wide, high), (0, high), (0, down),
            (left, down),
        )  # fmt: skip
    if form == 2:
        left, gap, right, high, deep = lengths
        wide = left + gap + right
        return (
            (0, 0), (wide, 0), (wide, high), (left + gap, high), (left + gap, high - deep), (left, high - deep),
            (left, high), (0, high),
        )  # fmt: skip
    across, up = lengths[:3], lengths[3:]
    wide, corners = sum(across), [(0.0, 0.0), (float(sum(across)), 0.0)]
    x, y = float(wide), 0.0
    for step, rise in zip(across, up, strict=True):
        corners += [(x, y + rise), (x - step, y + rise)]
        x, y = x - step, y + rise
    # The last step ends above the first corner.
    return tuple(corners)


def _sides(shown: tuple[int, ...]) -> list[int]:
    """The sides in their order around the figure; 0 for the one without a label."""
    corners = _corners(shown)
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    lengths = [round(abs(b[0] - a[0]) + abs(b[1] - a[1])) for a, b in pairs]
    lengths[shown[1]] = 0
    return lengths
