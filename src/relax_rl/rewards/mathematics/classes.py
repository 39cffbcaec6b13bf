r"""The class of an answer: one text for all forms of one value, whatever it is compared with.

``1/2``, ``0.5``, ``\frac12`` and ``x = \frac{2}{4}`` are one class, and so are ``\{1, 2\}`` and ``2, 1``, or
``2\sqrt{3}`` and ``\sqrt{12}``. A class must not change with what a policy can vary for free, so a unit behind a number
is left out. Where a form has several meanings and a gold answer would decide, one is taken: ``(1, 2)`` is a point.
An answer that nothing here can read is a class of its own spelling.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from decimal import Context, Decimal
from fractions import Fraction

from relax_rl.rewards.mathematics.grammar.matching import is_long
from relax_rl.rewards.mathematics.grammar.reader import read
from relax_rl.rewards.mathematics.grammar.values import RealSet, Value
from relax_rl.rewards.mathematics.literals import canonical, exact, is_word
from relax_rl.rewards.mathematics.units import read_quantity

__all__ = ["CLASS_DIGITS", "class_by", "class_in_place", "number_class", "spelling_class"]

Singles = Callable[[str], str | None]
"""The class of a single value without an exact number; None where it cannot tell."""

CLASS_DIGITS = 30
"""Significant digits of a real number that its class keeps."""

_MAX_CHARS = 80
_INFINITE = re.compile(r"[-+]?\\infty")
_DECIMALS = Context(prec=CLASS_DIGITS, Emin=-(10**6), Emax=10**6)


def class_in_place(text: str) -> str | None:
    """The class of an extracted answer, if that takes no algebra and little time; None: it does."""
    return None if is_long(text) else class_by(text, lambda _: None)


def class_by(text: str, algebra: Singles) -> str | None:
    """The class of an extracted answer; None if ``algebra`` cannot tell one of its parts."""
    return _single(text, algebra) if exact(canonical(text)) else _class(read(text).value, algebra)


def spelling_class(text: str) -> str:
    """The class of an answer that is equal to its own spelling only."""
    plain = canonical(text)
    digest = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return plain if len(plain) <= _MAX_CHARS else f"{plain[: _MAX_CHARS // 2]}... {digest}"


def number_class(number: Fraction | Decimal) -> str:
    """The class of a real number: so many of its digits that no two that a policy writes are confused."""
    if isinstance(number, Fraction):
        number = _DECIMALS.divide(Decimal(number.numerator), Decimal(number.denominator))
    short = _DECIMALS.plus(number).normalize(_DECIMALS)
    return f"{short:f}" if -CLASS_DIGITS < short.adjusted() < CLASS_DIGITS else str(short)


def _class(value: Value, algebra: Singles) -> str | None:
    option, named, claims = value.option(), list(value.named().values()), value.claims()
    if option or value.meaning():
        return option[0] if option else value.meaning()
    if claims is not None and claims[0] is value:
        return _single(value.text, algebra)
    if len(named) == 1 and named[0] is not value:
        return _class(named[0], algebra)
    members, entries, region, rows = value.members(), value.entries(), value.region(), value.rows()
    if members is not None and len(members) > 1 and not named:
        return _joined("{}", sorted(_known(_class(part, algebra) for part in members)), len(members), is_set=True)
    if region is not None and (entries is None or "\\infty" in value.text):
        return _region(region, algebra)
    vector = entries or value.vector(2) or value.vector(3)
    if vector is not None:
        return _joined("()", _known(_class(part, algebra) for part in vector), len(vector))
    if rows is not None:
        cells = [cell for row in rows for cell in row]
        found = _joined("[]", _known(_class(cell, algebra) for cell in cells), len(cells))
        return found and f"{len(rows)} rows {found}"
    if claims is None or (value.relation() is not None and not named):
        return algebra(value.text)
    classes = _known(_single(claim.text, algebra) for claim in claims)
    return _joined("", sorted(set(classes)), len(set(classes))) if len(classes) == len(claims) else None


def _single(text: str, algebra: Singles) -> str | None:
    """The class of a number, quantity, expression or word."""
    plain = canonical(text)
    if _INFINITE.fullmatch(plain):
        return plain.lstrip("+")
    number = exact(plain)
    if number is not None:
        return number_class(number[0] / 100 if number[1] else number[0])
    if plain.endswith("%"):
        return _single(f"\\frac{{{plain[:-1]}}}{{100}}", algebra)
    if is_word(text):
        return spelling_class(plain.casefold())
    quantity = read_quantity(text)
    if quantity.is_certain and quantity.value != text:
        return _single(quantity.scaled, algebra)
    return algebra(text)


def _region(region: RealSet, algebra: Singles) -> str | None:
    pieces: list[str] = []
    for piece in region.parts:
        ends = _known(_single(end, algebra) for end in (piece.left, piece.right))
        if len(ends) < 2:
            return None
        pieces.append(f"{'[' if piece.has_left else '('}{ends[0]}, {ends[1]}{']' if piece.has_right else ')'}")
    return " or ".join(sorted(pieces))


def _known(classes: Iterable[str | None]) -> list[str]:
    return [found for found in classes if found is not None]


def _joined(brackets: str, classes: list[str], count: int, *, is_set: bool = False) -> str | None:
    """One text for the classes of ``count`` parts; None unless all are known."""
    if len(classes) < count:
        return None
    parts = dict.fromkeys(classes) if is_set else classes
    opening, closing = (brackets[:1], brackets[1:])
    whole = f"{opening}{'; '.join(parts)}{closing}"
    return whole if len(whole) <= _MAX_CHARS else spelling_class(whole)
