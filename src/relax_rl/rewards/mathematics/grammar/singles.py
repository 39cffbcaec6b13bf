"""Single values: what kind a text is, and whether two are equal as far as exact arithmetic and units can tell."""

from __future__ import annotations

import re

from relax_rl.rewards.mathematics.grammar.names import letters_of
from relax_rl.rewards.mathematics.grammar.values import Compare
from relax_rl.rewards.mathematics.literals import TIME, canonical, exact, is_word, rational, same_literal
from relax_rl.rewards.mathematics.units import in_same_unit, read_quantity, with_radians

__all__ = ["is_rounded", "kind_of", "same_single"]

_LETTER = re.compile(r"\(?[A-J]\)?")
_MONEY = frozenset({("dollar", 1), ("euro", 1)})
_INFINITE = re.compile(r"[-+]?\\infty")


def kind_of(text: str) -> str:
    """``number``, ``percent``, ``quantity``, ``money``, ``time``, ``choice``, ``text`` or ``expression``."""
    plain = canonical(text)
    number = rational(plain)
    if number is not None or _INFINITE.fullmatch(plain):
        return "percent" if number is not None and number[1] else "number"
    if plain.endswith("%"):
        return "percent"
    if TIME.fullmatch(plain):
        return "time"
    if _LETTER.fullmatch(plain):
        return "choice"
    if is_word(text):
        return "text"
    unit = read_quantity(text).unit
    if unit is None or not unit.base:
        return "expression"
    return "money" if _MONEY & set(unit.base) else "quantity"


def is_rounded(value: str, decimal: str) -> bool:
    """Whether a decimal may be a rounded value: it is not if both are known and lie apart."""
    exactly, about = exact(canonical(value)), exact(canonical(decimal))
    if exactly is None or about is None:
        return True
    return abs(exactly[0] - about[0]) <= abs(exactly[0]) / 20


def same_single(gold: str, answer: str, algebra: Compare) -> bool | None:
    """Whether two single values are equal; None: ``algebra`` could not tell."""
    quick = same_literal(gold, answer)
    if quick is not None:
        return quick
    first, second = _infinity(gold), _infinity(answer)
    if first or second:
        return first == second
    if gold.endswith("%") and answer.endswith("%"):
        return same_single(gold[:-1], answer[:-1], algebra)
    if gold.endswith("%") != answer.endswith("%"):  # 50% is 50, where the question asks for percent, and one half
        verdicts = [algebra(*pair) for pair in _without_percent(gold, answer)]
        return True if True in verdicts else None if None in verdicts else False
    return _same_quantity(gold, answer, algebra)


def _infinity(text: str) -> str:
    plain = canonical(text)
    return plain.lstrip("+") if _INFINITE.fullmatch(plain) else ""


def _without_percent(gold: str, answer: str) -> list[tuple[str, str]]:
    if gold.endswith("%"):
        return [(gold[:-1], answer), (f"\\frac{{{gold[:-1]}}}{{100}}", answer)]
    return [(gold, answer[:-1]), (gold, f"\\frac{{{answer[:-1]}}}{{100}}")]


def _same_quantity(gold: str, answer: str, algebra: Compare) -> bool | None:
    """Units may be left out; where both sides state one, they must agree: 5 m is not 5 cm, and it is 500 cm."""
    one, other = with_radians(read_quantity(gold), read_quantity(answer))
    if one.unit and other.unit:
        pair = in_same_unit(one, other)
        pairs = [] if pair is None else [pair]
    elif one.is_certain and other.is_certain and (one.value, other.value) != (gold, answer):
        # The answer `3 million` is 3000000, and also 3, where the question counts in millions; a gold one is no 3.
        pairs = [(one.scaled, value) for value in dict.fromkeys((other.scaled, other.value))]
    elif not letters_of(gold) and other.unit and not other.is_certain:
        pairs = [(gold, other.value)]  # `5m` beside a number is five metres
    else:
        return algebra(gold, answer)
    verdicts = [same_single(*pair, algebra) for pair in pairs]
    return True if True in verdicts else None if None in verdicts else False
