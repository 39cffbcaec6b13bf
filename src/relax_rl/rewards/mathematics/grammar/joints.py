r"""What joins answers to a list: commas and semicolons, "and", "or", ``\pm``."""

from __future__ import annotations

import re

from relax_rl.rewards.mathematics.grammar.brackets import enclosed, pieces

__all__ = ["OR", "joined_by_marks", "listed", "signs"]

OR = r"\\lor(?![A-Za-z])"
_LIST = rf"[,;]|{OR}|\\land(?![A-Za-z])"
_AND_WORD = re.compile(
    r"\\text\s*\{\s*,?\s*and\s*\}|(?<![A-Za-z\\]),?\s*\b(?:and|as well as)\b|\\wedge(?![A-Za-z])|\\&"
)
_OR_WORD = re.compile(r"\\text\s*\{\s*,?\s*or\s*\}|(?<![A-Za-z\\]),?\s*\bor\b|\\vee(?![A-Za-z])")
_IN_TEXT = re.compile(r"(\\(?:text|mbox)\s*\{)([^{}]*(?:,|\band\b|\bor\b)[^{}]*)\}")
_JOINT = re.compile(r"(\s*(?:,\s*)?\b(?:and|or)\b\s*|\s*,\s*)")

_MARKS = {"or": "\\lor ", "and": "\\land ", "": ","}


def joined_by_marks(text: str) -> str:
    r"""``and`` as ``\land``, ``or`` as ``\lor``, also inside of texts, which end before it and begin again behind."""
    return _OR_WORD.sub(r"\\lor ", _AND_WORD.sub(r"\\land ", _IN_TEXT.sub(_parted, text)))


def _parted(found: re.Match[str]) -> str:
    opening, inside = found.groups()
    words = _JOINT.split(inside)  # words and joints in turn
    marks = [_MARKS[mark.strip(" ,")] for mark in words[1::2]]
    if not any(word.strip() for word in words[::2]):
        return "".join(dict.fromkeys(marks))
    wrapped = [f"{opening}{word}}}" if word.strip() else " " for word in words[::2]]
    return "".join(part for pair in zip(wrapped, [*marks, ""], strict=True) for part in pair)


def listed(text: str) -> tuple[list[str], set[str]]:
    """The members of a list outside all brackets, and what joins them."""
    parts, marks = pieces(text, _LIST)
    forms = [form for part in parts if part for form in signs(part)]
    return forms, set(marks)


def signs(text: str) -> list[str]:
    r"""``a \pm b`` is two values; with ``\mp`` beside it the lower sign."""
    if text.count("\\pm") != 1 or enclosed(text):
        return [text]
    upper, lower = (text.replace("\\pm", "+").replace("\\mp", "-"), text.replace("\\pm", "-").replace("\\mp", "+"))
    name, equals, value = upper.partition("=")
    return [f"{name}{equals}{value.strip().removeprefix('+')}" if equals else upper.lstrip("+ "), lower]
