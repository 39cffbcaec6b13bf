"""Whether an answer equals a gold answer of a type. None: the gold value is not of its own type."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from relax_rl.rewards.mathematics.answers import ExactVerifier, NumericVerifier
from relax_rl.rewards.visual.gold import TypedGold

__all__ = ["COMPARED", "same_value"]

_EXACT_NUMBER = NumericVerifier(relative_tolerance=0.0)
_EXACT_TEXT = ExactVerifier()
_PI = re.compile(r"(-?\d*\.?\d*)\s*\*?\s*(?:\\pi|π|pi)\s*(?:/\s*(\d+(?:\.\d+)?))?", re.ASCII)
_PI_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d*\.?\d*)\s*\\pi\}\{(\d+(?:\.\d+)?)\}", re.ASCII)
_AROUND = re.compile(r"\\left|\\right|\\[,;:! ]|\$")
_LETTER = re.compile(r"\(?([A-Z])[).]?")
_BETWEEN = re.compile(r"\s*[,;&\n]\s*|\s+and\s+|\s+", re.IGNORECASE)
_BRACKETS = {"[": "]", "(": ")", "{": "}", "\\{": "\\}"}


def same_value(gold: str, answer: str) -> bool:
    """Equal numbers, or else equal texts but for case and white space."""
    same = _EXACT_NUMBER.equal(gold, answer)
    return bool(_EXACT_TEXT.equal(gold, answer)) if same is None else same


def _integer(gold: TypedGold, answer: str) -> bool | None:
    return _EXACT_NUMBER.equal(gold.value, answer)


def _float(gold: TypedGold, answer: str) -> bool | None:
    """The answer, rounded to the places of the gold value, halves away from zero."""
    half = Fraction(1, 2 * 10 ** int(gold.number))
    value = _number(gold.value)
    if value is None:
        return _EXACT_NUMBER.equal(gold.value, answer)
    close = NumericVerifier(relative_tolerance=0.0, absolute_tolerance=float(half)).equal(gold.value, answer)
    far = value + half if value >= 0 else value - half
    return bool(close) and not _EXACT_NUMBER.equal(_decimal(far, int(gold.number) + 1), answer)


def _within(gold: TypedGold, answer: str) -> bool | None:
    verifier = NumericVerifier(relative_tolerance=0.0, absolute_tolerance=float(gold.number))
    return verifier.equal(gold.value, _without_pi(answer))


def _list(gold: TypedGold, answer: str) -> bool | None:
    expected, found = _members(gold.value), _members(answer)
    return len(expected) == len(found) and all(map(same_value, expected, found))


def _set(gold: TypedGold, answer: str) -> bool | None:
    expected = _letters(gold.value)
    if expected is not None:
        return _letters(answer) == expected
    left = _members(answer)
    for member in _members(gold.value):
        match = next((place for place, one in enumerate(left) if same_value(member, one)), None)
        if match is None:
            return False
        left.pop(match)
    return not left


def _text(gold: TypedGold, answer: str) -> bool | None:
    return _EXACT_TEXT.equal(gold.value, answer)


def _any(gold: TypedGold, answer: str) -> bool | None:
    return any(same_value(member, answer) for member in gold.members)


COMPARED: Mapping[str, Callable[[TypedGold, str], bool | None]] = {
    "integer": _integer,
    "float": _float,
    "within": _within,
    "list": _list,
    "set": _set,
    "text": _text,
    "any": _any,
}
"""By kind; choices and mathematics have verifiers of their own."""


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        return None


def _decimal(value: Fraction, places: int) -> str:
    return f"{'-' if value < 0 else ''}{abs(value) // 1}.{int(abs(value) % 1 * 10**places):0{places}d}"


def _without_pi(answer: str) -> str:
    """``2\\pi/3`` and ``\\frac{2\\pi}{3}`` as decimals; anything else as it is."""
    plain = _AROUND.sub("", answer).strip()
    found = _PI.fullmatch(plain)
    sign, factor, divisor = "", *(found.groups() if found else ("", None))
    if found is None:
        found = _PI_FRACTION.fullmatch(plain)
        if found is None:
            return answer
        sign, factor, divisor = found.groups()
    if factor in (".", "-."):
        return answer
    number = -1.0 if factor == "-" else float(factor or 1)
    below = float(divisor or 1)
    return answer if below == 0 else f"{(-number if sign else number) * math.pi / below:.12f}"


def _members(text: str) -> list[str]:
    """Of a list with or without brackets around it, between commas outside of brackets."""
    plain = _AROUND.sub("", text).strip()
    for opening, closing in _BRACKETS.items():
        if plain.startswith(opening) and plain.endswith(closing) and len(plain) > len(opening):
            plain = plain[len(opening) : -len(closing)]
            break
    parts, depth = [""], 0
    for character in plain:
        depth += (character in "([{") - (character in ")]}")
        if character in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _letters(text: str) -> frozenset[str] | None:
    """The letters of several choices, however they are separated; None for anything else."""
    plain = _AROUND.sub("", text).strip().removeprefix("\\text{").rstrip("}.")
    if re.fullmatch(r"[A-J]{2,10}", plain):
        parts: list[str] = list(plain)
    else:
        parts = [part for part in _BETWEEN.split(plain) if part]
    found = [_LETTER.fullmatch(part) for part in parts]
    letters = [one[1] for one in found if one is not None]
    return frozenset(letters) if letters and len(letters) == len(parts) == len(set(letters)) else None
