r"""Sets of real numbers: ``[1, 2)``, ``1 \le x < 2``, ``x < -4 or x > 3``, ``\mathbb{R} \setminus \{3\}``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from relax_rl.rewards.mathematics.grammar.brackets import pieces
from relax_rl.rewards.mathematics.grammar.names import is_name, letters_of, same_name
from relax_rl.rewards.mathematics.grammar.values import Compare, RealSet, Value, all_of, in_any_order
from relax_rl.rewards.mathematics.literals import canonical, exact

__all__ = ["Inequality", "Piece", "Region", "intersection", "read_inequality", "union", "without"]

_RELATION = r"\\(?:le|ge|lt|gt|ne)(?![A-Za-z])|[<>]"
_PLAIN = {"\\lt": "<", "\\gt": ">"}
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
_LEFT, _RIGHT = "-\\infty", "\\infty"


@dataclass(frozen=True)
class Piece:
    """An interval between two texts; a point has the same text at both ends."""

    left: str
    right: str
    has_left: bool
    has_right: bool

    @property
    def bounds(self) -> tuple[Fraction | float, Fraction | float] | None:
        """The ends as numbers; None if one takes algebra."""
        left, right = _number(self.left), _number(self.right)
        return None if left is None or right is None else (left, right)

    def matches(self, other: Piece, compare: Compare) -> bool | None:
        """Equality of the ends and of whether they belong to it."""
        if (self.has_left, self.has_right) != (other.has_left, other.has_right):
            return False
        return all_of((_same_end(self.left, other.left, compare), _same_end(self.right, other.right, compare)))


@dataclass(frozen=True)
class Region(Value):
    """Intervals and points that do not touch, in order as far as their ends are known without algebra."""

    parts: tuple[Piece, ...]
    variable: str = ""
    is_inequality: bool = False

    @property
    def type(self) -> str:
        return "inequality" if self.is_inequality else "interval" if len(self.parts) == 1 else "union"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        other = answer.region()
        if other is not None:
            return self._same(other, compare)
        relation = answer.relation()
        return compare(self.text, relation) if self.is_inequality and relation is not None else False

    def _same(self, other: RealSet, compare: Compare) -> bool | None:
        if self.variable and other.variable and not same_name(self.variable, other.variable):
            return False
        return in_any_order(self.parts, other.parts, lambda mine, part: mine.matches(part, compare))

    def members(self) -> tuple[Value, ...] | None:
        return (self,)

    def region(self) -> RealSet | None:
        return self

    def relation(self) -> str | None:
        return self.text if self.is_inequality else None


@dataclass(frozen=True)
class Inequality(Value):
    """An inequality that bounds no name alone, such as ``2x + y < 3``: algebra compares it."""

    @property
    def type(self) -> str:
        return "inequality"

    def matches(self, answer: Value, compare: Compare) -> bool | None:
        relation = answer.relation()
        return False if relation is None else compare(self.text, relation)

    def members(self) -> tuple[Value, ...] | None:
        return (self,)

    def relation(self) -> str | None:
        return self.text


def read_inequality(text: str) -> Value | None:
    """A chain of relations of which none is an equality; None if there is none."""
    sides, marks = pieces(text, _RELATION)
    marks = [_PLAIN.get(mark, mark) for mark in marks]
    if not marks or not all(sides) or "=" in text:
        return None
    if len(sides) == 2:
        return _of_two(text, sides, marks[0])
    rising = all(mark in ("<", "\\le") for mark in marks)
    if not rising:
        sides, marks = sides[::-1], [_FLIPPED[mark] for mark in marks[::-1]]
    if len(sides) == 3 and is_name(sides[1]) and all(mark in ("<", "\\le") for mark in marks):
        piece = Piece(sides[0], sides[2], marks[0] == "\\le", marks[1] == "\\le")
        return Region(text, (piece,), sides[1], is_inequality=True)
    return Inequality(text)


def _of_two(text: str, sides: Sequence[str], mark: str) -> Value:
    name, bound = sides
    if not is_name(name) or letters_of(bound):
        name, bound, mark = bound, name, _FLIPPED[mark]
    if not is_name(name) or letters_of(bound):
        return Inequality(text)
    below, above = (Piece(_LEFT, bound, False, mark == "\\le"), Piece(bound, _RIGHT, mark == "\\ge", False))
    parts = {"<": (below,), "\\le": (below,), ">": (above,), "\\ge": (above,), "\\ne": (below, above)}[mark]
    return Region(text, parts, name, is_inequality=True)


def union(text: str, regions: Sequence[RealSet]) -> Region | None:
    """All of them together; None if they bound different names, as ``x < 3, y > 2`` do."""
    names = [region.variable for region in regions if region.variable]
    if not all(same_name(names[0], name) for name in names):
        return None
    parts = [part for region in regions for part in region.parts]
    return Region(text, tuple(_merged(parts)), names[0] if names else "")


def without(text: str, points: Sequence[str]) -> Region | None:
    """The real numbers but for some points; None if their order is not known without algebra."""
    numbers = [(number, point) for point in points if (number := _number(point)) is not None]
    if len(points) > 1 and len(numbers) < len(points):
        return None
    ends = [_LEFT, *([point for _, point in sorted(numbers)] if len(points) > 1 else points), _RIGHT]
    return Region(text, tuple(Piece(a, b, False, False) for a, b in pairwise(ends)))


def intersection(text: str, regions: Sequence[RealSet]) -> Region | None:
    """What belongs to all of them; None if there is nothing, or if it takes algebra to tell."""
    if len({region.variable for region in regions}) > 1:
        return None
    found = list(regions[0].parts)
    for region in regions[1:]:
        common = [_common(one, other) for one in found for other in region.parts]
        found = [part for part in common if part is not None]
    return Region(text, tuple(_merged(found)), regions[0].variable, is_inequality=True) if found else None


def _common(one: Piece, other: Piece) -> Piece | None:
    first, second = one.bounds, other.bounds
    if first is None or second is None:
        return None
    left, has_left, from_left = max((first[0], not one.has_left, one.left), (second[0], not other.has_left, other.left))
    right, has_right, from_right = min((first[1], one.has_right, one.right), (second[1], other.has_right, other.right))
    has_left = not has_left
    if left > right or (left == right and not (has_left and has_right)):
        return None
    return Piece(from_left, from_right, has_left, has_right)


def _merged(parts: Sequence[Piece]) -> list[Piece]:
    """In order, those that touch or overlap made one; as they are if an end takes algebra."""
    bounded = [(part.bounds, part) for part in parts]
    known = [(bounds, part) for bounds, part in bounded if bounds is not None]
    if len(known) < len(parts):
        return list(parts)
    known.sort(key=lambda pair: (pair[0][0], not pair[1].has_left))
    merged: list[tuple[tuple[Fraction | float, Fraction | float], Piece]] = []
    for bounds, part in known:
        if merged:
            (left, right), last = merged[-1]
            if bounds[0] < right or (bounds[0] == right and (part.has_left or last.has_right)):
                end = max((right, last.has_right, last.right), (bounds[1], part.has_right, part.right))
                merged[-1] = ((left, end[0]), Piece(last.left, end[2], last.has_left, end[1]))
                continue
        merged.append((bounds, part))
    return [part for _, part in merged]


def _number(text: str) -> Fraction | float | None:
    plain = canonical(text)
    if plain in ("\\infty", "+\\infty"):
        return float("inf")
    if plain == "-\\infty":
        return float("-inf")
    found = exact(plain)
    return None if found is None or found[1] else found[0]


def _same_end(one: str, other: str, compare: Compare) -> bool | None:
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return first == second
    return False if float("inf") in (first, second) or float("-inf") in (first, second) else compare(one, other)
