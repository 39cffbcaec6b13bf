"""The functions that expressions are made of, with values of mpmath's, real or complex.

In real mode the even root, the logarithm or a broken power of a negative number has no value; in complex mode it has
its principal one. The cube root of a negative number is real in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpmath import mp

__all__ = [
    "Evaluate",
    "OutsideError",
    "Point",
    "added",
    "applied",
    "constant",
    "degrees",
    "divided",
    "factorial",
    "letter",
    "log",
    "multiplied",
    "negated",
    "number",
    "opaque",
    "raised",
    "root",
]

_MAX_EXPONENT = 10**7
_MAX_FACTORIAL = 10**5


class OutsideError(Exception):
    """A point at which an expression has no value."""


@dataclass(frozen=True)
class Point:
    """Values of letters, and whether all that is computed from them may be complex."""

    values: Mapping[str, Any]
    is_complex: bool = False


Evaluate = Callable[[Point], Any]


def number(text: str) -> Evaluate:
    """A decimal, exact as far as the precision reaches."""
    return lambda point: mp.mpf(text)


def constant(name: str) -> Evaluate:
    """``pi``, ``e`` or ``i``."""
    return {"pi": lambda point: +mp.pi, "e": lambda point: +mp.e, "i": lambda point: mp.mpc(0, 1)}[name]


def letter(name: str) -> Evaluate:
    """The value of a letter at the point."""
    return lambda point: point.values[name]


def added(one: Evaluate, other: Evaluate, sign: str) -> Evaluate:
    """Sum or difference."""
    if sign == "+":
        return lambda point: one(point) + other(point)
    return lambda point: one(point) - other(point)


def negated(value: Evaluate) -> Evaluate:
    """The negative."""
    return lambda point: -value(point)


def multiplied(one: Evaluate, other: Evaluate) -> Evaluate:
    """Product."""
    return lambda point: one(point) * other(point)


def divided(one: Evaluate, other: Evaluate) -> Evaluate:
    """Quotient; none by zero."""

    def quotient(point: Point) -> Any:
        below = other(point)
        if below == 0:
            raise OutsideError
        return one(point) / below

    return quotient


def degrees(value: Evaluate) -> Evaluate:
    """In radians."""
    return lambda point: value(point) * mp.pi / 180


def raised(base: Evaluate, exponent: Evaluate) -> Evaluate:
    """Power."""

    def power(point: Point) -> Any:
        below, above = base(point), exponent(point)
        if abs(above) > _MAX_EXPONENT:
            raise OutsideError
        whole = mp.nint(mp.re(above))
        if abs(above - whole) < mp.mpf(10) ** (-mp.dps // 2):
            if below == 0 and whole <= 0:
                raise OutsideError
            return below ** int(whole)
        if below == 0 and mp.re(above) <= 0:
            raise OutsideError
        if not point.is_complex and below < 0:
            raise OutsideError
        return below**above

    return power


def root(value: Evaluate, degree: Evaluate | None) -> Evaluate:
    """Square root, or that of a degree; the real one of a negative number if the degree is odd."""

    def found(point: Point) -> Any:
        inside = value(point)
        if degree is None:
            if not point.is_complex and inside < 0:
                raise OutsideError
            return mp.sqrt(inside)
        order = degree(point)
        if order == 0:
            raise OutsideError
        if mp.im(inside) == 0 and mp.re(inside) < 0 and mp.im(order) == 0 and int(order) == order and int(order) % 2:
            return -((-mp.re(inside)) ** (1 / order))
        if not point.is_complex and inside < 0:
            raise OutsideError
        return inside ** (1 / order)

    return found


def log(value: Evaluate, base: Evaluate) -> Evaluate:
    """Logarithm to a base."""
    above, below = applied("ln", [value]), applied("ln", [base])
    return divided(above, below)


def factorial(value: Evaluate, step: int) -> Evaluate:
    """``n!`` or ``n!!``."""

    def product(point: Point) -> Any:
        factor = value(point)
        if mp.im(factor) != 0 or mp.re(factor) > _MAX_FACTORIAL or mp.re(factor) < 0:
            raise OutsideError
        if step == 1:
            return mp.factorial(factor)
        if step > 2:
            raise OutsideError
        return mp.fac2(factor)

    return product


def opaque(name: str, argument: Evaluate) -> Evaluate:
    """A function that nothing is known of, such as ``f(x)``: some smooth one, another for each name."""
    seed = sum(map(ord, name))

    def value(point: Point) -> Any:
        inside = argument(point)
        return mp.sin(inside + seed) + inside * mp.cos(inside / seed) / 3

    return value


def _logarithm(value: Any, point: Point) -> Any:
    if value == 0 or (not point.is_complex and value < 0):
        raise OutsideError
    return mp.log(value)


def _inverse(name: str) -> Callable[[Any, Point], Any]:
    def found(value: Any, point: Point) -> Any:
        if not point.is_complex and name in ("asin", "acos") and abs(value) > 1:
            raise OutsideError
        if not point.is_complex and name in ("asec", "acsc") and abs(value) < 1:
            raise OutsideError
        if not point.is_complex and ((name == "acosh" and value < 1) or (name == "atanh" and abs(value) >= 1)):
            raise OutsideError
        return getattr(mp, name)(value)

    return found


def _choose(many: Any, few: Any) -> Any:
    if mp.im(many) or mp.im(few) or abs(many) > _MAX_FACTORIAL or abs(few) > _MAX_FACTORIAL:
        raise OutsideError
    return mp.binomial(many, few)


def _whole(name: str, one: Any, other: Any) -> Any:
    if int(one) != one or int(other) != other or not one or not other:
        raise OutsideError
    product = abs(int(one) * int(other))
    first, second = abs(int(one)), abs(int(other))
    while second:
        first, second = second, first % second
    return mp.mpf(first if name == "gcd" else product // first)


_ONE: dict[str, Callable[[Any, Point], Any]] = {
    **{
        name: (lambda value, point, name=name: getattr(mp, name)(value))
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "exp", "floor", "ceil")
    },
    **{name: _inverse(name) for name in ("asin", "acos", "atan", "acot", "asec", "acsc", "asinh", "acosh", "atanh")},
    **{f"arc{name}": _inverse(f"a{name}") for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    "ln": _logarithm,
    "log": _logarithm,
    "lg": lambda value, point: _logarithm(value, point) / mp.log(10),
    "abs": lambda value, point: abs(value),
    "ceiling": lambda value, point: mp.ceil(value),
    "cbrt": lambda value, point: mp.sign(value) * mp.cbrt(abs(value)),
    "gamma": lambda value, point: mp.gamma(value),
    "factorial": lambda value, point: mp.factorial(value),
    "sgn": lambda value, point: mp.sign(value),
    "sign": lambda value, point: mp.sign(value),
}
_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "binom": _choose,
    "binomial": _choose,
    "min": min,
    "max": max,
    "gcd": lambda one, other: _whole("gcd", one, other),
    "lcm": lambda one, other: _whole("lcm", one, other),
}


def applied(name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    """A function by name, of one argument or two."""

    def value(point: Point) -> Any:
        values = [argument(point) for argument in arguments]
        if name == "exp" and abs(values[0]) > _MAX_EXPONENT:
            raise OutsideError
        return _ONE[name](values[0], point) if len(values) == 1 else _TWO[name](*values)

    return value
