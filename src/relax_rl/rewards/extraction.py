"""Which part of a completion is its answer.

In order of trust: the last ``\\boxed{...}``, then the last stated answer ("the answer is X", "Answer: X", "#### X"),
then, only if asked for, the last bare number. Every step is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

__all__ = ["Extraction", "extract_answer"]

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])")
_BRACE_OR_ESCAPE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[ \t]*([^\s{}$]+)")
_STATED = re.compile(
    r"####[ \t]*(?=[-+$\\(\[{.\d])"
    r"|\banswers?\b(?:[^.\n:=]{0,80}?\b(?:is|are)\b|(?=\W{0,4}[:=]))\W{0,4}?[:=]?[*_ \t]*",
    re.IGNORECASE | re.ASCII,
)
_DELIMITED = (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$"))
_CURRENCY = re.compile(r"\$\s?\d[\d,]*(?:\.\d+)?(?![^$\n]*\$)", re.ASCII)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n|(?<=[^\s,]),(?=\s+(?:so|because|since|which|as)\b)")
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?\s?\\?%?"
_NUMBER_THEN_WORDS = re.compile(rf"(?:\\?\$)?\s?({_NUMBER})\s+(?!and\b|or\b)[A-Za-z]{{2,}}", re.ASCII)
_BARE_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}(?!\w)", re.ASCII)
# A stated answer ends within a line or so; what follows it is prose.
_STATED_CHARS = 600


@dataclass(frozen=True)
class Extraction:
    """The answer found in a completion.

    ``text`` is None if there is none, and ``how`` then says why: ``no answer``, or ``unclosed box`` if the completion
    ended inside its last box. Otherwise ``how`` is ``boxed``, ``stated`` or ``bare number``.
    """

    text: str | None
    how: str


def extract_answer(completion: str, *, allow_bare_number: bool = False) -> Extraction:
    """The last answer that a completion commits to. Empty boxes (an echo of the instruction) do not count."""
    boxed = _last_box(completion)
    if boxed is not None:
        return boxed
    stated = _last_stated(completion)
    if stated:
        return Extraction(stated, "stated")
    if allow_bare_number and (number := _last_number(completion)):
        return Extraction(number, "bare number")
    return Extraction(None, "no answer")


def _last_box(text: str) -> Extraction | None:
    for position in reversed([match.end() for match in _BOX.finditer(text)]):
        content = _group(text, position)
        if content is None:
            return Extraction(None, "unclosed box")
        if content.strip():
            return Extraction(content.strip(), "boxed")
    return None


def _group(text: str, position: int) -> str | None:
    """The brace group that begins at ``position``, or the bare word there; None if the group never closes."""
    opening = re.compile(r"\s*\{").match(text, position)
    if opening is None:
        word = _UNBRACED.match(text, position)
        return word.group(1).rstrip(".,;:") if word else ""
    depth = 1
    for token in _BRACE_OR_ESCAPE.finditer(text, opening.end()):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return text[opening.end() : token.start()]
    return None


def _last_stated(text: str) -> str:
    last = _last_match(_STATED, text)
    return "" if last is None else _statement(text[last.end() : last.end() + _STATED_CHARS])


def _statement(tail: str) -> str:
    """The answer at the head of the text that follows "answer is"."""
    tail = tail.lstrip(" \t\r\n*_`\"'")
    if not _CURRENCY.match(tail):
        for opening, closing in _DELIMITED:
            if tail.startswith(opening) and (end := tail.find(closing, len(opening))) >= 0:
                return tail[len(opening) : end].strip()
    end = _SENTENCE_END.search(tail)
    sentence = (tail[: end.start()] if end else tail).strip(" \t*_`\"'.,:;")
    number = _NUMBER_THEN_WORDS.match(sentence)
    return number.group(1).strip() if number else sentence


def _last_number(text: str) -> str:
    last = _last_match(_BARE_NUMBER, text)
    return "" if last is None else last.group().strip()


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
