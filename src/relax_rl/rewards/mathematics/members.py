"""Tuples, intervals, sets, lists and unions, taken apart and compared member by member.

Sympy reads ``(2,1)`` as an empty interval, equal to any other empty one, so no whole collection is ever given to it.
What is compared in the end are single values, by a function of the caller: one without algebra in the training process,
one with algebra in a grading process. Both take the same way to the same values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from relax_rl.rewards.mathematics.literals import same_literal, tidy
from relax_rl.rewards.mathematics.statements import is_name, qualifies, sides
from relax_rl.rewards.mathematics.units import in_same_unit, read_quantity, with_currency_in_words, with_radians

__all__ = ["CompareValues", "is_collection", "same_answer", "same_in_place", "single_values"]

CompareValues = Callable[[str, str], bool | None]
"""Whether two single values, gold first, are equal; None: it cannot tell."""

_OPENING, _CLOSING = "([{", ")]}"
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\]),?\s*\b(?:and|or)\b|(?<!\\);")
_TEXT_LIST = re.compile(r"\\text\s*\{([^{}]*,[^{}]*)\}")
_MEMBER = re.compile(r"[A-Za-z]\s*\\in(?![a-z])")
# What the training process takes apart itself; it has no limit of time, the grading processes have.
_MAX_PARTS_IN_PLACE = 32
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?[^\d,]*", re.ASCII)


def same_answer(gold: str, answer: str, compare: CompareValues) -> bool | None:
    """Whether two answers are equal; None: ``compare`` could not tell."""
    if qualifies(gold, answer):
        return False
    return _same(_plain(gold), _plain(answer), compare)


def same_in_place(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, if that takes no algebra and little time; None: it does."""
    if any(sum(map(text.count, ",([{")) > _MAX_PARTS_IN_PLACE for text in (gold, answer)):
        return False if qualifies(gold, answer) else same_literal(gold, answer)
    return same_answer(gold, answer, lambda _gold, _answer: None)


def is_collection(text: str) -> bool:
    """Whether an answer is a set or a bare list of several members; ``1,234`` is one number."""
    return len(_members(_plain(text), beside="")) > 1


def single_values(text: str) -> list[str]:
    """The values that an answer is made of, in order; a single value is its own."""
    return _values(_plain(text))


def _values(text: str) -> list[str]:
    brackets = _brackets(text)
    if brackets is not None:
        parts = _split(brackets[1], ",")
    else:
        parts = [part for union in _split(text, r"\cup") for part in _members(union, beside="")]
    return [text] if parts == [text] else [value for part in parts for value in _values(part)]


def _plain(text: str) -> str:
    text = _MEMBER.sub("", tidy(with_currency_in_words(text)))
    return _TEXT_LIST.sub(r"\1", text)  # `\text{A, B}` is a list of two


def _same(gold: str, answer: str, compare: CompareValues) -> bool | None:
    quick = same_literal(gold, answer)
    if quick is not None:
        return quick
    golds, answers = _split(gold, r"\cup"), _split(answer, r"\cup")
    if len(golds) > 1 and len(answers) > 1:
        return _same_members(golds, answers, compare)
    left, right = _brackets(gold), _brackets(answer)
    if left and right and "{}" not in (left[0], right[0]):
        return left[0] == right[0] and _same_sequence(left[1], right[1], compare)
    golds, answers = _members(gold, beside=answer), _members(answer, beside=gold)
    # A point may lose its parentheses, its order not; an interval may lose nothing.
    if left and left[0] == "()" and len(answers) > 1 and not right:
        return _same_sequence(left[1], answer, compare)
    if right and right[0] == "()" and len(golds) > 1 and not left:
        return _same_sequence(gold, right[1], compare)
    if len(golds) > 1 or len(answers) > 1:
        return _same_members(golds, answers, compare)
    if golds != [gold] or answers != [answer]:
        return _same(golds[0], answers[0], compare) if golds and answers else golds == answers
    if gold.endswith("%") and answer.endswith("%"):
        gold, answer = gold[:-1], answer[:-1]
    return _same_chain(gold, answer, compare)


def _same_chain(gold: str, answer: str, compare: CompareValues) -> bool | None:
    """A chain such as ``x = 2+3 = 5`` is right if all its sides are; a name stands for any value."""
    expected, found = sides(gold), sides(answer)
    if len(expected) > 2 or len(found) <= len(expected):
        return _same_quantity(gold, answer, compare)
    values = [side for side in found[:-1] if not is_name(side)]
    claims = [_same(expected[-1], side, compare) for side in dict.fromkeys(values)]
    last = f"{found[0]} = {found[-1]}" if len(expected) == 2 else found[-1]
    return _all([*claims, _same(gold, last, compare)])


def _same_quantity(gold: str, answer: str, compare: CompareValues) -> bool | None:
    """Units may be left out; where both sides state one, they must agree: 5 m is not 5 cm, and it is 500 cm."""
    one, other = with_radians(read_quantity(gold), read_quantity(answer))
    if one.unit and other.unit:
        pair = in_same_unit(one, other)
        pairs = [] if pair is None else [pair]
    elif one.is_certain and other.is_certain and (one.value, other.value) != (gold, answer):
        # The answer `3 million` is 3000000, and also 3, where the question counts in millions; a gold one is no 3.
        pairs = [(one.scaled, value) for value in dict.fromkeys((other.scaled, other.value))]
    else:
        return compare(gold, answer)
    verdicts = [_same(*pair, compare) for pair in pairs]
    return True if True in verdicts else None if None in verdicts else False


def _same_sequence(gold: str, answer: str, compare: CompareValues) -> bool | None:
    golds, answers = _split(gold, ","), _split(answer, ",")
    if len(golds) != len(answers):
        return False
    return _all(_same(one, other, compare) for one, other in zip(golds, answers, strict=True))


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    known = True
    for verdict in verdicts:
        if verdict is False:
            return False
        known = known and verdict is not None
    return True if known else None


def _same_members(golds: Sequence[str], answers: Sequence[str], compare: CompareValues) -> bool | None:
    """Equality as collections without order. Equality is transitive enough for greedy matching to decide."""
    if len(golds) != len(answers):
        return False
    left = list(answers)
    for gold in golds:
        verdicts = []
        for index, answer in enumerate(left):
            verdicts.append(_same(gold, answer, compare))
            if verdicts[-1]:
                left.pop(index)
                break
        else:
            return None if None in verdicts else False
    return True


def _members(text: str, beside: str) -> list[str]:
    """The members of a set or bare list; a single answer is its own only member."""
    brackets = _brackets(text)
    if brackets and brackets[0] == "{}":
        return _split(brackets[1], ",")
    if _THOUSANDS.fullmatch(text) and len(_split(beside, ",")) <= 1:
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
