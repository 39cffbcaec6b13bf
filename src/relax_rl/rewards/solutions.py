"""Arithmetic expressions as trees, and which of them are the same solution.

Two expressions are one if they differ in the order and the grouping of their sums and products alone: a difference is a
sum with a signed term, a quotient a product with an inverse factor. So 3+8 and 8+3 are one, and a-(b-c) and a+c-b. It
is the structure that counts and never a value: 2+2 and 2*2 are two solutions, and so are 7*1 and 7/1.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

__all__ = ["Expression", "canonical", "value_of"]

Expression = int | tuple[str, "Expression", "Expression"]
"""A number, or one of the four signs with its two sides."""

_Term = tuple[int, str]
"""A sign and the text of what is added: 1, -1, or 0 where the sign makes no difference."""


def value_of(expression: Expression) -> Fraction:
    """The exact value. Raises ZeroDivisionError where it divides by zero."""
    if isinstance(expression, int):
        return Fraction(expression)
    sign, left, right = expression
    first, second = value_of(left), value_of(right)
    if sign == "+":
        return first + second
    if sign == "-":
        return first - second
    return first * second if sign == "*" else first / second


def canonical(expression: Expression) -> str:
    """One text for all expressions that are the same solution, such as ``a*(b+c)-d``."""
    return _sum_text(_terms(expression))


def _terms(expression: Expression) -> list[_Term]:
    """The terms of the expression as a sum, those of inner sums included."""
    if not isinstance(expression, int) and expression[0] in "+-":
        sign, left, right = expression
        return _terms(left) + (_terms(right) if sign == "+" else _negated(_terms(right)))
    sign, above, below = _factors(expression)
    return [(sign, "*".join(sorted(above, key=_rank)) + "".join(f"/{text}" for text in sorted(below, key=_rank)))]


def _factors(expression: Expression) -> tuple[int, list[str], list[str]]:
    """The expression as a product: its sign, and the texts of its factors above and below the line."""
    if isinstance(expression, int):
        return 1, [str(expression)], []
    kind, left, right = expression
    if kind in "+-":
        terms = _terms(expression)
        turned = _negated(terms)
        # (3-8)*(2-7) and (8-3)*(7-2) are one: a factor has one of its two directions, and the product takes the sign.
        first, second = _direction(terms), _direction(turned)
        if first == second:
            return 0, [f"({_sum_text(terms)})"], []
        return (1, [f"({_sum_text(terms)})"], []) if first > second else (-1, [f"({_sum_text(turned)})"], [])
    sign, above, below = _factors(left)
    other_sign, other_above, other_below = _factors(right)
    if kind == "/":
        other_above, other_below = other_below, other_above
    return sign * other_sign, above + other_above, below + other_below


def _negated(terms: Iterable[_Term]) -> list[_Term]:
    return [(-sign, text) for sign, text in terms]


def _direction(terms: Iterable[_Term]) -> list[list[tuple[int, str]]]:
    """What tells a sum from its negative: the added terms, the largest first, and the subtracted ones."""
    found = list(terms)
    return [sorted((_rank(text) for s, text in found if s == sign), reverse=True) for sign in (1, -1)]


def _rank(text: str) -> tuple[int, str]:
    return len(text), text


def _sum_text(terms: Iterable[_Term]) -> str:
    found = sorted(terms, key=lambda term: (term[0] < 0, _rank(term[1])))
    text = "".join(f"{'-' if sign < 0 else '+'}{text}" for sign, text in found)
    return text.removeprefix("+")
