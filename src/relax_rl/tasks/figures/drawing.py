"""Figures as geometry: lines and words in the coordinates of a kind, and the same placed on a square of pixels.

A kind builds a `Scene`; `place` turns, mirrors, scales and shifts it into a `Drawing`. The picture is painted from the
drawing (`.painting`), and the second route to each gold answer measures the drawing (`.geometry`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["Colour", "Drawing", "Line", "Point", "Scene", "Style", "Text", "place"]

Point = tuple[float, float]
Colour = tuple[int, int, int]

_PAPERS: tuple[Colour, ...] = ((255, 255, 255), (252, 247, 235), (236, 243, 252), (240, 240, 240))
_INKS: tuple[Colour, ...] = ((0, 0, 0), (20, 40, 90), (70, 20, 30), (20, 70, 50))
_DARK_PAPERS: tuple[Colour, ...] = ((24, 26, 34), (16, 44, 36))
_LIGHT_INKS: tuple[Colour, ...] = ((245, 245, 245), (250, 230, 170))


@dataclass(frozen=True)
class Line:
    """A line through points, or a polygon.

    Attributes:
        points: in order; of a drawing in pixels, with y downwards.
        role: role of the line in its figure; the second route finds lines by it.
        is_closed: the last point is joined to the first.
        fill: "" for none, "tint", or the name of a colour.
        ink: as ``fill``; "ink" is the colour of lines and words.
        weight: width in strokes.
    """

    points: tuple[Point, ...]
    role: str
    is_closed: bool = False
    fill: str = ""
    ink: str = "ink"
    is_dashed: bool = False
    weight: float = 1.0

    @property
    def segments(self) -> list[tuple[Point, Point]]:
        """Neighbouring points, in pairs."""
        following = self.points[1:] + (self.points[:1] if self.is_closed else ())
        return list(zip(self.points, following, strict=False))


@dataclass(frozen=True)
class Text:
    """Words in a figure.

    Attributes:
        at: the middle of the words.
        push: the direction, in the coordinates of the scene, in which they are moved off ``at`` by about their height.
        labels: the words belong to the line nearest to them, which must be the one through ``at``.
        size: in the font size of the drawing.
        has_halo: paper is left around the letters, over lines that cross them.
        anchor: point of a drawing where ``at`` was before the push; for the check that the words can be read alone.
    """

    words: str
    at: Point
    role: str
    push: Point = (0.0, 0.0)
    labels: bool = False
    size: float = 1.0
    has_halo: bool = False
    anchor: Point = (0.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """A figure in the coordinates of its kind, with y upwards.

    Attributes:
        turns: it may be rotated by any angle.
        flips: it may be mirrored.
        is_wide: it fills the width and the height of the picture, each by a scale of its own: axes with marks.
    """

    lines: tuple[Line, ...]
    texts: tuple[Text, ...] = ()
    turns: bool = False
    flips: bool = False
    is_wide: bool = False


@dataclass(frozen=True)
class Style:
    """How a figure is drawn, apart from what it shows.

    Attributes:
        stroke: width of lines, and ``font``: height of words, as shares of the picture's side.
        turn: degrees, where the scene may be turned; ``is_mirrored``: where it may be mirrored.
        scale: share of the room that the figure takes.
        shift: its place in the rest of the room, from 0 to 1 in each direction.
        rules: lines of ruled paper behind it; 0: none.
    """

    paper: Colour = (255, 255, 255)
    ink: Colour = (0, 0, 0)
    tint: Colour = (205, 220, 240)
    stroke: float = 0.006
    font: float = 0.05
    turn: int = 0
    is_mirrored: bool = False
    scale: float = 1.0
    shift: Point = (0.5, 0.5)
    rules: int = 0

    @classmethod
    def drawn(cls, rng: random.Random, *, is_small: bool, may_be_dark: bool) -> Style:
        """A random style; ``is_small``: of a picture of few pixels, with large words and without ruled paper."""
        is_dark = may_be_dark and not is_small and rng.random() < 0.2
        scale, turn, mirrored = rng.uniform(0.8, 1.0), rng.randrange(360), rng.random() < 0.5
        style = cls(
            paper=rng.choice(_DARK_PAPERS if is_dark else _PAPERS),
            ink=rng.choice(_LIGHT_INKS if is_dark else _INKS),
            tint=rng.choice(((60, 66, 92), (84, 58, 58)) if is_dark else ((205, 220, 240), (240, 214, 200))),
            stroke=rng.uniform(0.004, 0.009),
            font=rng.uniform(0.042, 0.056),
            turn=turn,
            is_mirrored=mirrored,
            scale=round(scale, 3),
            shift=(round(rng.random(), 3), round(rng.random(), 3)),
            rules=rng.choice((0, 0, 9, 14)),
        )
        return replace(style, stroke=0.02, font=0.14, rules=0) if is_small else style


@dataclass(frozen=True)
class Drawing:
    """A figure placed on a square picture, in pixels with y downwards.

    Attributes:
        side: side of the picture.
        height: height of words of size 1, in pixels.
        caption: words above the figure.
    """

    side: int
    lines: tuple[Line, ...]
    texts: tuple[Text, ...]
    style: Style
    height: float
    caption: tuple[str, ...] = ()

    def box(self, text: Text) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of some words, about."""
        half_width, half_height = 0.3 * len(text.words) * self.height * text.size, 0.5 * self.height * text.size
        x, y = text.at
        return x - half_width, y - half_height, x + half_width, y + half_height


def place(scene: Scene, style: Style, side: int, caption: Sequence[str] = ()) -> Drawing:
    """The scene in a style on a square of ``side`` pixels, below a caption of lines of words."""
    height = style.font * side
    top = 1.35 * height * len(caption) + (0.5 * height if caption else 0.0)
    turned = _turned(scene, style)
    points = [point for line in turned.lines for point in line.points]
    points += [text.at for text in turned.texts]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = _margin(scene, height, side)
    room = (side - 2 * margin, side - top - 2 * margin)
    scales = (style.scale * room[0] / ((right - left) or 1.0), style.scale * room[1] / ((high - low) or 1.0))
    across, upwards = scales if scene.is_wide else (min(scales), min(scales))
    x0 = margin + (room[0] - across * (right - left)) * style.shift[0]
    y0 = top + margin + (room[1] - upwards * (high - low)) * style.shift[1]

    def at(point: Point) -> Point:
        return x0 + across * (point[0] - left), y0 + upwards * (high - point[1])

    def pushed(text: Text) -> Point:
        x, y = at(text.at)
        length = math.hypot(*text.push) or 1.0
        reach = height * text.size * (0.75 + 0.12 * len(text.words) * abs(text.push[0]) / length)
        return (x + reach * text.push[0] / length, y - reach * text.push[1] / length) if any(text.push) else (x, y)

    return Drawing(
        side,
        tuple(replace(line, points=tuple(at(point) for point in line.points)) for line in turned.lines),
        tuple(replace(text, at=pushed(text), push=(0.0, 0.0), anchor=at(text.at)) for text in turned.texts),
        style,
        height,
        tuple(caption),
    )


def _margin(scene: Scene, height: float, side: int) -> float:
    """Room for the words beside the lines."""
    longest = max((len(text.words) * text.size for text in scene.texts if any(text.push)), default=0.0)
    return min(0.03 * side + (height * (1.2 + 0.3 * longest) if longest else 0.0), 0.22 * side)


def _turned(scene: Scene, style: Style) -> Scene:
    angle = math.radians(style.turn) if scene.turns else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    sign = -1.0 if scene.flips and style.is_mirrored else 1.0

    def turn(point: Point) -> Point:
        x, y = sign * point[0], point[1]
        return x * cos - y * sin, x * sin + y * cos

    return replace(
        scene,
        lines=tuple(replace(line, points=tuple(turn(point) for point in line.points)) for line in scene.lines),
        texts=tuple(replace(text, at=turn(text.at), push=turn(text.push)) for text in scene.texts),
    )
