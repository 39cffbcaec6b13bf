"""Whether two answers mean the same. Runs inside a grading process: sympy may hang, or eat all memory, on any of this.

Tuples, intervals, sets, lists and unions are taken apart here and compared part by part, because sympy reads ``(2,1)``
as an empty interval, equal to any other empty one. Single values go to ``math-verify``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from math_verify import parse, verify
from math_verify.parser import LatexExtractionConfig
from sympy import Basic, Expr, MatrixBase

from relax_rl.rewards.literals import same_literal, tidy, without_e_notation

__all__ = ["compare"]

# It warns, once a process, that its own timeout is off. It is: the pool has the limit.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_WITH_UNITS = LatexExtractionConfig(boxed_match_priority=0)
_WITHOUT_UNITS = replace(_WITH_UNITS, normalization_config=replace(_WITH_UNITS.normalization_config, units=False))
_WRITTEN_UNIT = re.compile(
    r"(?<=[\w}%)])\s*\\(?:text|mbox|mathrm|textrm)\s*\{[^{}]*\}(?:\s*\^\s*(?:\{[^{}]*\}|\d))?\s*$"
)
# Read as Euler's number, whatever its subscript; under another letter the two sides still agree with each other.
_SUBSCRIPTED_E = re.compile(r"(?<![\\A-Za-z])[Ee]_")
_VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
_OPENING, _CLOSING = "([{", ")]}"
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\]),?\s*\b(?:and|or)\b")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?[^\d,]*", re.ASCII)
_MEMBER = re.compile(r"[A-Za-z]\s*\\in(?![a-z])")
# The relative difference above which two constants differ, whatever math-verify's rounding to 6 decimals says:
# without it every number below 5e-7 would equal zero.
_RELATIVE_TOLERANCE = 1e-6


class _UnreadableGoldError(Exception):
    """The gold answer parses to nothing, so that no verdict is possible."""


def compare(gold: str, answer: str) -> dict[str, Any]:
    """``{"verdict": bool}``, or ``{"verdict": None, "reason": "gold unreadable"}``."""
    try:
        return {"verdict": _same(_MEMBER.sub("", tidy(gold)), _MEMBER.sub("", tidy(answer)))}
    except _UnreadableGoldError:
        return {"verdict": None, "reason": "gold unreadable"}


def _same(gold: str, answer: str) -> bool:
    quick = same_literal(gold, answer)
    if quick is not None:
        return quick
    golds, answers = _split(gold, r"\cup"), _split(answer, r"\cup")
    if len(golds) > 1 and len(answers) > 1:
        return _same_members(golds, answers)
    left, right = _brackets(gold), _brackets(answer)
    if left and right and "{}" not in (left[0], right[0]):
        return left[0] == right[0] and _same_sequence(left[1], right[1])
    golds, answers = _members(gold, beside=answer), _members(answer, beside=gold)
    # A point may lose its parentheses, its order not; an interval may lose nothing.
    if left and left[0] == "()" and len(answers) > 1 and not right:
        return _same_sequence(left[1], answer)
    if right and right[0] == "()" and len(golds) > 1 and not left:
        return _same_sequence(gold, right[1])
    if len(golds) > 1 or len(answers) > 1:
        return _same_members(golds, answers)
    if golds != [gold] or answers != [answer]:
        return _same(golds[0], answers[0]) if golds and answers else golds == answers
    return _same_value(gold, answer)


def _same_sequence(gold: str, answer: str) -> bool:
    golds, answers = _split(gold, ","), _split(answer, ",")
    return len(golds) == len(answers) and all(_same(g, a) for g, a in zip(golds, answers, strict=True))


def _same_members(golds: Sequence[str], answers: Sequence[str]) -> bool:
    """Equality as collections without order. Equality is transitive enough for greedy matching to decide."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        found = next((index for index, answer in enumerate(left) if _same(gold, answer)), None)
        if found is None:
            return False
        left.pop(found)
    return True


def _members(text: str, beside: str) -> list[str]:
    """The members of a set or bare list; a single answer is its own only member."""
    brackets = _brackets(text)
    if brackets and brackets[0] == "{}":
        return _split(brackets[1], ",")
    if _THOUSANDS.fullmatch(text) and len(_split(beside, ",")) == 1:
        return [text.replace(",", "")]  # `1,234 cm`: beside a single value it is one, too
    return _split(text, ",")


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators outside all brackets; ``a \\pm b`` is two parts."""
    if separator == ",":
        text = _AND.sub(",", text)
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        if text[index] in _OPENING:
            depth += 1
        elif text[index] in _CLOSING:
            depth -= 1
        elif depth == 0 and text.startswith(separator, index):
            parts.append(text[start:index])
            start = index = index + len(separator)
            continue
        index += 1
    parts = [part.strip() for part in [*parts, text[start:]] if part.strip()]
    if separator != ",":
        return parts
    return [form for part in parts for form in _both_signs(part)]


def _both_signs(text: str) -> list[str]:
    if text.count("\\pm") != 1 or _brackets(text):
        return [text]
    return [text.replace("\\pm", "+").lstrip("+ "), text.replace("\\pm", "-")]


def _brackets(text: str) -> tuple[str, str] | None:
    """(kind, inside) of a tuple, interval or set: ``()`` ``[)`` ``(]`` ``[]`` with commas, or ``{}``."""
    if len(text) > 4 and text.startswith("\\{") and text.endswith("\\}"):
        return "{}", text[2:-2]
    if len(text) < 3 or text[0] not in "([" or text[-1] not in ")]":
        return None
    depth = 0
    for index, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and index < len(text) - 1:
            return None  # the first bracket closes before the end: `(a)(b)`
    inside = text[1:-1]
    return (text[0] + text[-1], inside) if len(_split(inside, ",")) > 1 else None


def _same_value(gold: str, answer: str) -> bool:
    gold, answer = _WRITTEN_UNIT.sub("", gold), _WRITTEN_UNIT.sub("", answer)
    # math-verify drops what looks like a unit, and `t` and `b + c` do: only beside a plain number is `5 m` five metres.
    numeric = _VARIABLE.search(gold) is None
    expected = _parse(gold, _WITHOUT_UNITS) or _parse(gold, _WITH_UNITS)
    if not expected:
        raise _UnreadableGoldError(gold)
    first, second = (_WITH_UNITS, _WITHOUT_UNITS) if numeric else (_WITHOUT_UNITS, _WITH_UNITS)
    found = _parse(answer, first) or _parse(answer, second)
    if not found:
        return False  # the gold answer is mathematics, and this is not
    return any(
        verify(one, other, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
        and _as_close(one, other)
        for one in expected
        for other in found
    )


def _parse(text: str, config: LatexExtractionConfig) -> list[Any]:
    """Sympy objects of an answer; never of a bare one, which math-verify searches for the last number in it."""
    text = _SUBSCRIPTED_E.sub(r"\\Upsilon_", without_e_notation(text))
    for wrapped in (f"\\boxed{{{text}}}", f"${text}$"):
        parsed = parse(wrapped, extraction_config=[config], parsing_timeout=None, raise_on_error=True)  # type: ignore[arg-type]
        found = [item for item in parsed if isinstance(item, (Basic, MatrixBase))]
        if found:
            return found
    return []


def _as_close(one: Any, other: Any) -> bool:
    if not (isinstance(one, Expr) and isinstance(other, Expr) and one.is_number and other.is_number):
        return True
    try:
        left, right = complex(one.doit().evalf(20)), complex(other.doit().evalf(20))
    except (TypeError, OverflowError):  # not a finite number: math-verify's word stands
        return True
    return abs(left - right) <= _RELATIVE_TOLERANCE * max(abs(left), abs(right))


# The first parse builds the grammar's tables and the first comparison imports half of sympy, some 0.3 s together: done
# while the worker starts, so that no item pays for it out of its own time.
compare("x^2+2x+1", "(x+2)^2")
compare("\\sqrt{18}", "3\\sqrt{2}")
