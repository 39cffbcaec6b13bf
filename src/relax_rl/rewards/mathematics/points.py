"""Whether two expressions are equal, by their values at points, with so many digits that chance plays no part; and one
text for all expressions that are.

Two expressions of some hundred characters that differ at all differ at almost every point, and by far more than the
last of the digits kept. What is equal at a dozen points is equal where both have a value; an expression that has no
value at any of them is not decided here.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

from mpmath import mp

from relax_rl.rewards.mathematics.classes import CLASS_DIGITS, number_class
from relax_rl.rewards.mathematics.expressions import Expression
from relax_rl.rewards.mathematics.functions import OutsideError, Point

__all__ = ["equation_class", "expression_class", "renamed", "same_equation", "same_progressions", "same_value"]

_DIGITS = 60
# Beyond them two expressions are not compared here.
_MAX_DIGITS = 3000
# Of the digits, what rounding may take.
_LOST_DIGITS = 25
_NUM_POINTS = 12
_MIN_POINTS = 3
_MAX_STEPS_RATIO = 10**4
_MAX_RESIDUES = 200


def same_value(one: Expression, other: Expression) -> bool | None:
    """Equality as functions of their letters; None if they have no value at enough points."""
    letters = sorted(one.letters | other.letters)
    is_complex = one.is_complex or other.is_complex
    digits = _DIGITS + one.digits + other.digits
    if digits > _MAX_DIGITS:
        return None
    num_equal = 0
    for values in _points(letters):
        verdict = _equal_at(one, other, Point(values, is_complex), digits)
        if verdict is False:
            return False
        num_equal += verdict is True
    if num_equal >= (_MIN_POINTS if letters else 1):
        return True
    with mp.workdps(digits):
        points = [Point(values, is_complex) for values in _points(letters)]
        counts = sorted(sum(_value(side, point) is not None for point in points) for side in (one, other))
    # One that has no value anywhere is none that has.
    return False if counts[0] == 0 and counts[1] >= _MIN_POINTS else None


def same_equation(one: Sequence[Expression], other: Sequence[Expression]) -> bool | None:
    """Whether two equations differ by a constant factor; None if their quotient is no constant, or has no value."""
    letters = sorted(frozenset[str]().union(*(side.letters for side in (*one, *other))))
    is_complex = any(side.is_complex for side in (*one, *other))
    quotients: list[Any] = []
    digits = _DIGITS + sum(side.digits for side in (*one, *other))
    if digits > _MAX_DIGITS:
        return None
    with mp.workdps(digits):
        for values in _points(letters):
            point = Point(values, is_complex)
            first, second = _difference(one, point), _difference(other, point)
            if first is not None and second is not None and first != 0 and second != 0:
                quotients.append(first / second)
        if len(quotients) < _MIN_POINTS:
            return None
        return True if all(_is_close(quotients[0], quotient) for quotient in quotients[1:]) else None


def expression_class(expression: Expression) -> str | None:
    """The number that an expression is, or its letters with a digest of its values; None if it has too few.

    Equal expressions of the same letters have the same class.
    """
    digits = _DIGITS + expression.digits
    if digits > _MAX_DIGITS:
        return None
    letters = sorted(expression.letters)
    with mp.workdps(digits):
        values = [_value(expression, Point(point, expression.is_complex)) for point in _points(letters)]
        shown = ["" if value is None else _shown(value) for value in values]
    known = [text for text in shown if text]
    if len(known) < (_MIN_POINTS if letters else 1):
        return None
    return shown[0] if len(set(shown)) == 1 else f"{','.join(letters)}: {_digest(shown)}"


def equation_class(sides: Sequence[Expression]) -> str | None:
    """As `expression_class`, of an equation of two sides; a constant factor makes no other class."""
    letters = sorted(sides[0].letters | sides[1].letters)
    is_complex = any(side.is_complex for side in sides)
    digits = _DIGITS + sum(side.digits for side in sides)
    if digits > _MAX_DIGITS:
        return None
    with mp.workdps(digits):
        values = [_difference(sides, Point(point, is_complex)) for point in _points(letters)]
        scale = next((value for value in values if value is not None and _shown(value) != "0"), None)
        if scale is None:
            return None
        shown = ["" if value is None else _shown(value / scale) for value in values]
    return f"{','.join(letters)} = {_digest(shown)}"


def _shown(value: Any) -> str:
    """A value with the digits that its class keeps, under the precision in force."""
    noise = mp.mpf(10) ** (_LOST_DIGITS - mp.dps) * max(mp.mpf(1), abs(value))
    parts = [mp.mpf(0) if abs(part) <= noise else part for part in (mp.re(value), mp.im(value))]
    real, imaginary = (number_class(Decimal(str(mp.nstr(part, CLASS_DIGITS + 10)))) for part in parts)
    return real if imaginary == "0" else f"{real} + {imaginary} i"


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b(";".join(texts).encode(), digest_size=8).hexdigest()


def renamed(one: Expression, other: Expression, constants: frozenset[str]) -> Iterator[Expression]:
    """The other expression with its arbitrary constants named as those of the first, in every way."""
    mine, found = (sorted(one.letters - other.letters), sorted(other.letters - one.letters))
    if len(mine) == len(found) <= 3 and set(mine) | set(found) <= constants:
        for order in permutations(mine):
            yield _with_names(other, dict(zip(found, order, strict=True)))


def _with_names(expression: Expression, names: Mapping[str, str]) -> Expression:
    def evaluate(point: Point) -> Any:
        values = {name: point.values[names.get(name, name)] for name in expression.letters}
        return expression.evaluate(Point(values, point.is_complex))

    letters = frozenset(names.get(name, name) for name in expression.letters)
    return Expression(evaluate, letters, expression.is_complex, expression.digits)


def same_progressions(
    golds: Sequence[tuple[Expression, str]], answers: Sequence[tuple[Expression, str]]
) -> bool | None:
    """Whether two unions of arithmetic progressions over all integers are one set; None if a formula is none."""
    with mp.workdps(_DIGITS):
        first, second = _progressions(golds), _progressions(answers)
        if first is None or second is None:
            return None
        if not first[1] or not second[1]:
            return False
        period = _common_period([*first[1], *second[1]])
        if period is None:
            return False
        mine, found = _residues(first, period), _residues(second, period)
        if mine is None or found is None or len(mine) != len(found):
            return False
        return all(any(_same_residue(one, other, period) for other in found) for one in mine)


def _points(letters: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Small positive, larger positive, of both signs, then whole numbers, in a fixed order."""
    rng = random.Random(20)
    if not letters:
        yield {}
        return
    for low, high in ((0, 1), (0.5, 3.5), (-3, 3)):
        for _ in range(_NUM_POINTS // 3):
            yield {name: mp.mpf(rng.uniform(low, high)) for name in letters}
    for shift in range(4):
        yield {name: mp.mpf(2 + shift + 3 * place) for place, name in enumerate(letters)}


def _equal_at(one: Expression, other: Expression, point: Point, digits: int) -> bool | None:
    with mp.workdps(digits):
        first, second = _value(one, point), _value(other, point)
        if first is None or second is None:
            # A constant that has no value is not one that has.
            return None if one.letters or other.letters or first is second else False
        if _is_close(first, second):
            return True
        small = mp.mpf(10) ** (_LOST_DIGITS - digits)
        if max(abs(first), abs(second)) > small:
            return False
    with mp.workdps(2 * digits):  # zero, or merely small
        first, second = (_shrinking(value, _value(side, point)) for value, side in ((first, one), (second, other)))
        return None if first is None or second is None else first == second or _is_close(first, second)


def _shrinking(value: Any, better: Any) -> Any:
    """A value computed anew with twice the digits: zero if that made it far smaller."""
    if better is None:
        return None
    return mp.mpf(0) if abs(better) <= abs(value) * mp.mpf(10) ** -_LOST_DIGITS else better


def _value(expression: Expression, point: Point) -> Any:
    try:
        value = expression.evaluate(point)
    except (OutsideError, ZeroDivisionError, ValueError, OverflowError, TypeError, NotImplementedError):
        return None
    return value if mp.isfinite(value) else None


def _difference(sides: Sequence[Expression], point: Point) -> Any:
    left, right = _value(sides[0], point), _value(sides[1], point)
    return None if left is None or right is None else left - right


def _is_close(one: Any, other: Any) -> bool:
    return bool(abs(one - other) <= mp.mpf(10) ** (_LOST_DIGITS - mp.dps) * max(abs(one), abs(other)))


_Progressions = tuple[list[tuple[Any, Any]], list[Any]]


def _progressions(members: Sequence[tuple[Expression, str]]) -> _Progressions | None:
    """((first value, step) of each, the steps that are not zero); None if one is not linear in its parameter."""
    found: list[tuple[Any, Any]] = []
    for expression, parameter in members:
        values = [_value(expression, Point({parameter: mp.mpf(number)})) for number in (0, 1, 2, 5)]
        if any(value is None for value in values):
            return None
        start, step = values[0], values[1] - values[0]
        scale = mp.mpf(10) ** (_LOST_DIGITS - _DIGITS) * (abs(start) + abs(step) + 1)
        if abs(values[2] - start - 2 * step) > scale or abs(values[3] - start - 5 * step) > scale:
            return None
        found.append((start, abs(step) if abs(step) > scale else mp.mpf(0)))
    return found, [step for _, step in found if step]


def _common_period(steps: Sequence[Any]) -> Any:
    """The least multiple of all steps; None if their quotients are no small fractions."""
    numerator, denominator = 1, 0
    for step in steps:
        ratio = step / steps[0]
        near = Fraction(str(mp.nstr(ratio, 30))).limit_denominator(_MAX_STEPS_RATIO)
        if abs(mp.mpf(near.numerator) / near.denominator - ratio) > mp.mpf(10) ** (_LOST_DIGITS - _DIGITS):
            return None
        numerator = numerator * near.numerator // math.gcd(numerator, near.numerator)
        denominator = math.gcd(denominator, near.denominator)
    return steps[0] * numerator / denominator


def _residues(progressions: _Progressions, period: Any) -> list[Any] | None:
    """What is left of the progressions' members by the period, each once; None if they are too many."""
    found: list[Any] = []
    for start, step in progressions[0]:
        if not step:
            return None  # a single value beside progressions
        count = int(mp.nint(period / step))
        if count > _MAX_RESIDUES:
            return None
        for index in range(count):
            residue = (start + index * step) % period
            if not any(_same_residue(residue, other, period) for other in found):
                found.append(residue)
    return found


def _same_residue(one: Any, other: Any, period: Any) -> bool:
    distance = abs(one - other)
    return bool(min(distance, period - distance) <= mp.mpf(10) ** (_LOST_DIGITS - _DIGITS) * (period + 1))
