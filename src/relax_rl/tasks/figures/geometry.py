"""Measurements of a drawing in pixels: what the second route to a gold answer is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable

from relax_rl.tasks.figures.drawing import Drawing, Line, Point, Text

__all__ = [
    "angle_at",
    "area",
    "axis_value",
    "clockwise",
    "distance_to",
    "is_legible",
    "length_of",
    "lines_of",
    "nearest",
    "one_line",
    "pixels_a_unit",
    "texts_of",
]

Segment = tuple[Point, Point]
MEASURED = ("outline", "height")
"""Roles of lines whose lengths words give."""


def lines_of(drawing: Drawing, *roles: str) -> list[Line]:
    """The lines of some roles, in order."""
    return [line for line in drawing.lines if line.role in roles]


def one_line(drawing: Drawing, role: str) -> Line:
    """The only line of a role."""
    (line,) = lines_of(drawing, role)
    return line


def texts_of(drawing: Drawing, role: str) -> list[Text]:
    """The words of a role, in order."""
    return [text for text in drawing.texts if text.role == role]


def length_of(segment: Segment) -> float:
    """In pixels."""
    return math.dist(*segment)


def area(points: Iterable[Point]) -> float:
    """Area of a polygon, in square pixels (shoelace)."""
    corners = list(points)
    following = corners[1:] + corners[:1]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, following, strict=True))) / 2


def distance_to(point: Point, segment: Segment) -> float:
    """From a point to the nearest point of a segment."""
    (x, y), (ax, ay), (bx, by) = point, *segment
    square = (bx - ax) ** 2 + (by - ay) ** 2
    share = 0.0 if square == 0 else min(max(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square, 0.0), 1.0)
    return math.dist(point, (ax + share * (bx - ax), ay + share * (by - ay)))


def nearest(drawing: Drawing, text: Text, *roles: str) -> Segment:
    """The segment next to some words, among lines of the roles; by default, lines whose lengths words give."""
    segments = [segment for line in lines_of(drawing, *(roles or MEASURED)) for segment in line.segments]
    return min(segments, key=lambda segment: distance_to(text.at, segment))


def pixels_a_unit(drawing: Drawing) -> float:
    """From the first label with a number, and the length of the line next to it."""
    label = next(text for text in drawing.texts if text.labels and text.words.isdecimal())
    return length_of(nearest(drawing, label)) / int(label.words)


def axis_value(drawing: Drawing, role: str, position: float, *, across: bool) -> float:
    """The value at a position, in pixels, of an axis whose marks bear numbers of a role.

    Args:
        across: the axis runs from left to right; False: from the bottom to the top.
    """
    marks = sorted((text.at[0] if across else text.at[1], int(text.words)) for text in texts_of(drawing, role))
    (start, first), (end, last) = marks[0], marks[-1]
    return first + (position - start) * (last - first) / (end - start)


def clockwise(centre: Point, tip: Point) -> float:
    """Degrees from straight up to the direction of a hand, from 0 to 360."""
    return math.degrees(math.atan2(tip[0] - centre[0], centre[1] - tip[1])) % 360


def angle_at(drawing: Drawing, text: Text) -> float:
    """Degrees of the angle that some words stand in: between the two rays beside them at the nearest corner."""
    rays = [segment for line in lines_of(drawing, "outline") for segment in line.segments]
    corner = min(
        (point for ray in rays for point in ray if _degree(point, rays) > 1), key=lambda p: math.dist(p, text.at)
    )
    ends = [b if _same(a, corner) else a for a, b in rays if _same(a, corner) or _same(b, corner)]
    middle = clockwise(corner, text.at)
    turns = sorted((clockwise(corner, end) - middle) % 360 for end in ends)
    return (turns[0] - turns[-1]) % 360


def _degree(point: Point, rays: Iterable[Segment]) -> int:
    return sum(_same(point, a) or _same(point, b) for a, b in rays)


def _same(first: Point, second: Point) -> bool:
    return math.dist(first, second) < 1e-6


def is_legible(drawing: Drawing) -> bool:
    """Whether all words are inside the picture and apart, and each label beside its own line and clear of others."""
    boxes = [drawing.box(text) for text in drawing.texts]
    if any(left < 0 or top < 0 or right > drawing.side or bottom > drawing.side for left, top, right, bottom in boxes):
        return False
    for place, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[place + 1 :]:
            if left < other[2] and other[0] < right and top < other[3] and other[1] < bottom:
                return False
    segments = [segment for line in lines_of(drawing, *MEASURED) for segment in line.segments]
    if any(_is_crossed(drawing, text, segments) for text in texts_of(drawing, "angle")):
        return False
    labels = [text for text in drawing.texts if text.labels]
    if any(distance_to(text.at, segment) < 0.45 * drawing.height for text in labels for segment in segments):
        return False
    return all(_stands_out(drawing, text, segments) for text in labels)


def _is_crossed(drawing: Drawing, text: Text, segments: list[Segment]) -> bool:
    """Whether a line runs through the words, from their first letter to their last."""
    left, _, right, _ = drawing.box(text)
    places = [(left + 0.1 * (right - left) + 0.8 * share * (right - left), text.at[1]) for share in (0, 0.5, 1)]
    return any(distance_to(place, segment) < 0.4 * drawing.height for place in places for segment in segments)


def _stands_out(drawing: Drawing, text: Text, segments: list[Segment]) -> bool:
    """Whether the line of the words is clearly nearer to them than every other."""
    near = sorted(segments, key=lambda segment: distance_to(text.at, segment))
    if distance_to(text.anchor, near[0]) > 1e-6:
        return False
    first, *others = (distance_to(text.at, segment) for segment in near[:2])
    return all(other > first + 0.25 * drawing.height for other in others)
