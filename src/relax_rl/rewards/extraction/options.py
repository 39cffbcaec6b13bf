"""Multiple choice: a letter, its value, or both, on either side, with the options' texts where they are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relax_rl.rewards.extraction.finding import Extraction
from relax_rl.rewards.extraction.values import is_denied

__all__ = ["Choice", "chosen_pair", "read_choice"]

_WRAPPED = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|bf)\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[ ,;:!]|~|\\q?quad(?![A-Za-z])")
_LETTER = re.compile(r"\s*\(?([A-Z])\s*[).:]?\s*")
_WITH_VALUE = re.compile(r"\s*(?:\(([A-Z])\)[.:]?|([A-Z])[).:](?=\s)|([A-Z])[:])\s*(?=\S)")
_OTHER_LETTER = re.compile(r"\([A-Z]\)|(?<![A-Za-z\\])[A-Z][).](?:\s|$)|^\s*[A-Z]\s*$")
_JOINT = re.compile(r"\s*(?:and|or|nor|,|/|&|;|\+|-|=|\^|\\cup|\\cap|\\cdot|\\times)", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """What an answer chooses.

    Attributes:
        letter: the option's letter; empty if it names none.
        value: what stands beside the letter, or the whole answer without a letter; empty for a letter alone.
    """

    letter: str
    value: str


def read_choice(text: str) -> Choice:
    """The letter and the value of ``(B)``, ``\\textbf{(B)}\\ 12``, ``B. Paris`` or ``12``."""
    plain = _SPACE.sub(" ", _WRAPPED.sub(r"\1", text)).strip().strip("$*")
    alone = _LETTER.fullmatch(plain)
    if alone:
        return Choice(alone[1], "")
    found = _WITH_VALUE.match(plain)
    if found is None:
        return Choice("", text)
    value = plain[found.end() :].strip()
    # `(A) or (B)`, `A: is wrong`: more than one letter, or one that the words take back.
    if _JOINT.match(value) or _OTHER_LETTER.search(value) or is_denied(value):
        return Choice("", text)
    return Choice(found[1] or found[2] or found[3], value)


def chosen_pair(
    gold: str,
    found: Extraction,
    text: str,
    options: Sequence[str],
    same: Callable[[str, str], bool | None],
) -> tuple[str, str] | None:
    """The (gold answer, answer) to compare: both letters, or both values.

    None: the answer contradicts itself, or the gold answer, and is wrong.

    Args:
        text: what was found, as one text.
        options: the texts of A, B, ...; empty where they are not known.
        same: whether two values are equal, gold first; None: that takes algebra.
    """
    expected, answer = read_choice(gold), read_choice(text)
    if found.letter is not None and not answer.letter:
        answer = Choice(found.letter, text)
    if not expected.letter and not answer.letter:
        return gold, text
    if answer.letter and answer.value and _is_other(answer, options, same):
        return None
    if expected.letter:
        return _beside_letter(gold, text, expected, answer, options)
    if answer.value:
        return gold, answer.value
    named = _option(answer.letter, options)
    return (gold, text) if named is None else (gold, named)


def _beside_letter(
    gold: str, text: str, expected: Choice, answer: Choice, options: Sequence[str]
) -> tuple[str, str] | None:
    if answer.letter:
        if answer.letter != expected.letter:
            return None
        return (expected.value, answer.value) if expected.value and answer.value else (expected.letter, answer.letter)
    named = expected.value or _option(expected.letter, options)
    return (gold, text) if named is None or named == "" else (named, text)


def _option(letter: str, options: Sequence[str]) -> str | None:
    place = ord(letter) - ord("A")
    return read_choice(options[place]).value or options[place] if place < len(options) else None


def _is_other(answer: Choice, options: Sequence[str], same: Callable[[str, str], bool | None]) -> bool:
    """Whether the options are known and say another value for the letter than the answer does."""
    named = _option(answer.letter, options)
    return named is not None and same(named, answer.value) is False
