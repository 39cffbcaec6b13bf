r"""Exact values of arithmetic on whole numbers and decimals, bounded before each step is done.

``2^{10}``, ``5+7``, ``\frac{4!}{2}`` need no algebra, and a tower such as ``9^{9^{9}}`` must not reach a computer
algebra system, which would try to write its digits down. The size of every result is estimated first. Letters, roots
and functions have no value here, but what stands inside them is still bounded: ``\sqrt{9^{9^{9}}}`` is too large, too.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["MAX_BITS", "TooLargeError", "arithmetic"]

MAX_BITS = 1 << 15
"""Of a numerator or denominator: some 9,900 decimal digits. The largest gold answer known has 5,800."""
# Of all steps together: the operands of a long sum may each be below the bound.
_MAX_WORK_BITS = 1 << 20
_MAX_CHARS = 300
_MAX_DEPTH = 40

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*(?!\*))"
    r"|(?P<power>\^|\*\*)|(?P<fraction>\\[dtc]?frac(?![A-Za-z]))|(?P<other>\\[A-Za-z]+|\\.|.))",
    re.ASCII | re.DOTALL,
)
_CLOSING = {"(": ")", "{": "}"}


class TooLargeError(Exception):
    """A number of the expression has more than `MAX_BITS` bits."""


class _UnknownStructureError(Exception):
    """Brackets that do not close, or signs in an order that is no arithmetic: this module has no opinion."""


def arithmetic(text: str) -> Fraction | None:
    """The exact value of a tidied text; None if it is no arithmetic, or not certainly so.

    Raises:
        TooLargeError: a value in it is a number too large to be written down.
    """
    if len(text) > _MAX_CHARS:
        return None
    tokens = [(match.lastgroup or "", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text.strip())]
    try:
        return _Reader(tokens).whole()
    except _UnknownStructureError:
        return None


class _Reader:
    """sum := product (("+" | "-") product)*; product := power (("*" | "/" | nothing) power)*;
    power := value "!"* ("^" value)?; value := number | "(" sum ")" | "{" sum "}" | fraction value value | anything else
    """

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._work = 0

    def whole(self) -> Fraction | None:
        if not self._tokens:
            raise _UnknownStructureError
        value = self._sum()
        if self._place < len(self._tokens):
            raise _UnknownStructureError
        return value

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("", "")

    def _takes(self, *texts: str) -> str:
        text = self._next[1]
        if text and text in texts:
            self._place += 1
            return text
        return ""

    def _sum(self) -> Fraction | None:
        sign = self._takes("+", "-")
        value = self._product()
        value = -value if sign == "-" and value is not None else value
        while sign := self._takes("+", "-"):
            other = self._product()
            known = value is not None and other is not None
            value = self._bounded(value + other if sign == "+" else value - other) if known else None  # type: ignore[operator]
        return value

    def _product(self) -> Fraction | None:
        value = self._power()
        while (text := self._next[1]) and text not in {"+", "-", ")", "}"}:
            kind = self._next[0]
            if kind == "times" or text == "/":
                self._place += 1
                value = self._joined(value, self._power(), is_division=text == "/")
            else:  # side by side: a product, or a mixed number, or words
                self._power()
                value = None
        return value

    def _joined(self, value: Fraction | None, other: Fraction | None, *, is_division: bool) -> Fraction | None:
        if value is None or other is None or (is_division and other == 0):
            return None
        return self._bounded(value / other if is_division else value * other)

    def _power(self) -> Fraction | None:
        value = self._factorials(self._value())
        if self._next[0] != "power":
            return value
        self._place += 1
        exponent = self._value()
        if self._next[0] == "power" or self._next[1] == "!":  # `2^3!`: of the power or of the exponent
            raise _UnknownStructureError
        return self._raised(value, exponent)

    def _factorials(self, value: Fraction | None) -> Fraction | None:
        count = 0
        while self._takes("!"):
            count += 1
        if count == 0 or value is None:
            return value
        if value.denominator != 1 or value < 0:
            return None
        step, product, factor = count, 1, int(value)  # `n!!` is the double factorial
        if factor * factor.bit_length() > step * 2 * MAX_BITS:
            raise TooLargeError
        while factor > 1:
            product *= factor
            factor -= step
        return self._bounded(Fraction(product))

    def _raised(self, base: Fraction | None, exponent: Fraction | None) -> Fraction | None:
        if base is None or exponent is None:
            return None
        if exponent.denominator != 1:
            if abs(exponent) * _bits(base) > MAX_BITS:
                raise TooLargeError
            return None
        if base in (0, 1, -1):
            return Fraction(int(base) ** int(abs(exponent))) if base != 0 or exponent > 0 else None
        if abs(exponent) * (_bits(base) - 1) > MAX_BITS:
            raise TooLargeError
        return self._bounded(base ** int(exponent))

    def _value(self) -> Fraction | None:
        kind, text = self._next
        if text in {"", ")", "}", "+", "-", "/", "^", "!"} or kind in {"times", "power"}:
            raise _UnknownStructureError
        self._place += 1
        if kind == "number":
            return self._bounded(Fraction(text))
        if kind == "fraction":
            top, bottom = self._argument(), self._argument()
            return self._joined(top, bottom, is_division=True)
        return self._inside(_CLOSING[text]) if text in _CLOSING else None

    def _argument(self) -> Fraction | None:
        if self._takes("{"):
            return self._inside("}")
        raise _UnknownStructureError

    def _inside(self, closing: str) -> Fraction | None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _UnknownStructureError
        value = self._sum()
        self._depth -= 1
        if not self._takes(closing):
            raise _UnknownStructureError
        return value

    def _bounded(self, value: Fraction) -> Fraction:
        bits = _bits(value)
        self._work += bits
        if bits > MAX_BITS:
            raise TooLargeError
        if self._work > _MAX_WORK_BITS:
            raise _UnknownStructureError
        return value


def _bits(value: Fraction) -> int:
    return max(abs(value.numerator).bit_length(), value.denominator.bit_length())
