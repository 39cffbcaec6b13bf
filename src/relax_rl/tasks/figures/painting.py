"""From a drawing to pixels, with PIL and its built-in font alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from relax_rl.tasks.figures.drawing import Colour, Drawing, Line, Point

__all__ = ["COLOURS", "described", "paint"]

COLOURS: dict[str, Colour] = {
    "red": (214, 39, 40),
    "blue": (31, 84, 200),
    "green": (34, 150, 60),
    "orange": (245, 145, 20),
    "purple": (130, 60, 170),
}
"""Named colours of shapes, distinct on light paper."""


def described(drawing: Drawing) -> str:
    """All of a drawing in words, in hundredths of a pixel."""

    def at(point: Point) -> str:
        return f"{point[0]:.2f},{point[1]:.2f}"

    lines = [
        f"{' '.join(map(at, one.points))}|{one.role}|{one.is_closed}|{one.fill}|{one.ink}|{one.is_dashed}|{one.weight}"
        for one in drawing.lines
    ]
    texts = [f"{one.words}|{at(one.at)}|{one.role}|{one.size}" for one in drawing.texts]
    return "\n".join(
        [str(drawing.side), repr(drawing.style), f"{drawing.height:.2f}", *drawing.caption, *lines, *texts]
    )


def paint(drawing: Drawing) -> Image.Image:
    """The picture in RGB: painted larger and reduced, so that its edges are smooth."""
    times = 4 if drawing.side <= 160 else 2
    style = drawing.style
    image = Image.new("RGB", (drawing.side * times, drawing.side * times), style.paper)
    pen = ImageDraw.Draw(image)
    _rule(pen, drawing, times)
    for line in drawing.lines:
        _paint_line(pen, line, drawing, times)
    for text in drawing.texts:
        font = _font(round(drawing.height * text.size * times))
        halo = round(0.15 * drawing.height * times) if text.has_halo else 0
        at = (text.at[0] * times, text.at[1] * times)
        pen.text(at, text.words, style.ink, font, anchor="mm", stroke_width=halo, stroke_fill=style.paper)
    for row, words in enumerate(drawing.caption):
        y = (0.5 + 1.35 * row + 0.5) * drawing.height * times
        pen.text(
            (0.6 * drawing.height * times, y), words, fill=style.ink, font=_font(drawing.height * times), anchor="lm"
        )
    return image.reduce(times)


@functools.lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(round(size), 4))


def _rule(pen: ImageDraw.ImageDraw, drawing: Drawing, times: int) -> None:
    """Faint lines across the paper."""
    style, side = drawing.style, drawing.side * times
    faint = _between(style.paper, style.ink, 0.12)
    for row in range(1, style.rules):
        y = side * row // style.rules
        pen.line([(0, y), (side, y)], fill=faint, width=times)


def _between(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _paint_line(pen: ImageDraw.ImageDraw, line: Line, drawing: Drawing, times: int) -> None:
    points = [(x * times, y * times) for x, y in line.points]
    if line.fill:
        pen.polygon(points, fill=_colour(line.fill, drawing))
    if not line.ink:
        return
    width = max(round(line.weight * drawing.style.stroke * drawing.side * times), 1)
    colour = _colour(line.ink, drawing)
    if line.is_dashed:
        for start, end in line.segments:
            for first, second in _dashes(start, end, 0.025 * drawing.side):
                pen.line([(first[0] * times, first[1] * times), (second[0] * times, second[1] * times)], colour, width)
        return
    closed = [*points, *points[:2]] if line.is_closed else points
    pen.line(closed, fill=colour, width=width, joint="curve")


def _dashes(start: Point, end: Point, length: float) -> Iterator[tuple[Point, Point]]:
    whole = math.dist(start, end)
    count = max(round(whole / length), 1)
    for place in range(0, count, 2):
        shares = (place / count, min((place + 1) / count, 1.0))
        first, second = ((start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1])) for s in shares)
        yield first, second


def _colour(name: str, drawing: Drawing) -> Colour:
    if name == "ink":
        return drawing.style.ink
    return drawing.style.tint if name == "tint" else COLOURS[name]
