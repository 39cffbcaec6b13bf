"""Which part of a completion is its answer.

Only what follows the thinking counts. There, in order of trust: the last ``\\boxed{...}`` or ``<answer>...</answer>``,
whichever begins later; then the last stated answer ("the answer is X", "Answer: X", "#### X"); then, only if asked for,
the last bare number. A text that ends inside its thought, box or tag was cut off and has no answer. Every step is
linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

__all__ = ["Extraction", "extract_answer"]

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])")
_BRACE_OR_ESCAPE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[ \t]*([^\s{}$]+)")
_THINK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
# What an echo of the instruction holds: "put it in \boxed{}", "in <answer> ... </answer>".
_PLACEHOLDER = re.compile(r"[\s.\u2026]*|\s*\\[lc]?dots\s*")
# Between two boxes that are one answer: `\boxed{2}$ and $\boxed{3}`, `x = \boxed{1}, x = \boxed{9}`.
_BOX_GLUE = re.compile(r"[\s$&~]|\\[()\[\],;! ]|\\q?quad(?![A-Za-z])|\\(?:text|mbox)\s*\{|\}")
_JOINT = re.compile(r"(?:[,;]|[,;]?(?:and|or))(?:[A-Za-z]=)?")
_JOINT_CHARS = 60
_MAX_JOINED = 32
_STATED = re.compile(
    r"####[ \t]*(?=[-+$\\(\[{.\d])"
    r"|\banswers?\b(?:[^.\n:=]{0,80}?\b(?:is|are)\b|(?=\W{0,4}[:=]))\W{0,4}?[:=]?[*_ \t]*",
    re.IGNORECASE | re.ASCII,
)
_DELIMITED = (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$"))
# Possessive: with a step back for every digit, a megabyte of them would take the square of that.
_CURRENCY = re.compile(r"\$\s?\d[\d,]*+(?:\.\d++)?+(?![^$\n]*\$)", re.ASCII)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n|(?<=[^\s,]),(?=\s+(?:so|because|since|which|as)\b)")
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?\s?\\?%?"
_NUMBER_THEN_WORDS = re.compile(rf"(?:\\?\$)?\s?({_NUMBER})\s+(?!and\b|or\b)[A-Za-z]{{2,}}", re.ASCII)
_BARE_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}(?!\w)", re.ASCII)
# A stated answer ends within a line or so; what follows it is prose.
_STATED_CHARS = 600


@dataclass(frozen=True)
class Extraction:
    """The answer found in a completion.

    Attributes:
        text: the answer; None if there is none.
        how: ``boxed``, ``tagged``, ``stated`` or ``bare number``; without an answer ``no answer``, ``unclosed box``,
            ``unclosed tag``, ``unclosed thought`` (the completion ended inside it) or ``truncated``.
        last: what the last box alone holds, where ``text`` joins several: ``\\boxed{2}, \\boxed{3}`` is ``2, 3``.
    """

    text: str | None
    how: str
    last: str | None = None


# `12 is not the answer`, `12 at most`; but `12, not 13` states 12.
_DENIED = re.compile(
    r"\s*(?:(?:is|are|was|were)\s+)?(?:not|never|no|isn'?t|aren'?t|wrong|incorrect|false|invalid|plus|minus"
    r"|at\s+(?:least|most)|or\s+(?:more|less|fewer|so))(?![A-Za-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Commitment:
    """An answer with the place where its box or tag begins."""

    start: int
    found: Extraction


def extract_answer(completion: str, *, allow_bare_number: bool = False, is_truncated: bool = False) -> Extraction:
    """The last answer that a completion commits to. Empty boxes and tags (an echo of the instruction) do not count.

    Args:
        allow_bare_number: take the last number if nothing else is found.
        is_truncated: the completion hit its length limit, so that a stated answer or a number at its very end may
            have been cut and is none.
    """
    text = _after_thinking(completion)
    if text is None:
        return Extraction(None, "unclosed thought")
    committed = [found for found in (_last_box(text), _last_tag(text)) if found is not None]
    if committed:
        return max(committed, key=lambda commitment: commitment.start).found
    stated, end = _last_stated(text)
    how = "stated"
    if not stated and allow_bare_number:
        (stated, end), how = _last_number(text), "bare number"
    if not stated:
        return Extraction(None, "no answer")
    if is_truncated and not text[end:].strip():
        return Extraction(None, "truncated")
    return Extraction(stated, how)


def _after_thinking(text: str) -> str | None:
    """What follows the last thought; None if the text ends inside one. The prompt may have opened the first."""
    last = _last_match(_THINK, text)
    if last is None:
        return text
    return text[last.end() :] if last.group(1) else None


def _last_box(text: str) -> _Commitment | None:
    joined: deque[str] = deque()
    start = 0
    for box in reversed(list(_BOX.finditer(text))):
        content, end = _group(text, box.end())
        if joined and (content is None or not _are_joined(text[end : min(start, end + _JOINT_CHARS + 1)])):
            break
        if content is None:
            return _Commitment(box.start(), Extraction(None, "unclosed box"))
        if not _PLACEHOLDER.fullmatch(content):
            joined.appendleft(content.strip())
            start = box.start()
        elif joined:
            break
        if len(joined) == _MAX_JOINED:
            break
    if not joined:
        return None
    last = joined[-1] if len(joined) > 1 else None
    return _Commitment(start, Extraction(", ".join(joined), "boxed", last))


def _are_joined(between: str) -> bool:
    return len(between) <= _JOINT_CHARS and _JOINT.fullmatch(_BOX_GLUE.sub("", between)) is not None


def _group(text: str, position: int) -> tuple[str | None, int]:
    """The brace group that begins at ``position``, or the bare word there, and its end; None if it never closes."""
    opening = re.compile(r"\s*\{").match(text, position)
    if opening is None:
        word = _UNBRACED.match(text, position)
        return (word.group(1).rstrip(".,;:"), word.end()) if word else ("", position)
    depth = 1
    for token in _BRACE_OR_ESCAPE.finditer(text, opening.end()):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return text[opening.end() : token.start()], token.end()
    return None, len(text)


def _last_tag(text: str) -> _Commitment | None:
    closing: re.Match[str] | None = None
    for tag in reversed(list(_ANSWER_TAG.finditer(text))):
        if tag.group(1):
            closing = tag
        elif closing is None:
            return _Commitment(tag.start(), Extraction(None, "unclosed tag"))
        else:
            content = text[tag.end() : closing.start()]
            closing = None
            if not _PLACEHOLDER.fullmatch(content):
                return _Commitment(tag.start(), Extraction(_tagged(content), "tagged"))
    return None


def _tagged(content: str) -> str:
    stated, _ = _last_stated(content)
    if stated:
        return stated
    content = content.strip()
    # A question is no statement: `12 ? 7`.
    return content if "\n" in content or "?" in content else _statement(content)


def _last_stated(text: str) -> tuple[str, int]:
    """The last stated answer ("" if there is none) and where it ends."""
    last = _last_match(_STATED, text)
    if last is None:
        return "", 0
    statement = _statement(text[last.end() : last.end() + _STATED_CHARS])
    return statement, text.find(statement, last.end()) + len(statement)


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
    if number is None or _DENIED.match(sentence[number.end(1) :]):
        return sentence
    return number.group(1).strip()


def _last_number(text: str) -> tuple[str, int]:
    last = _last_match(_BARE_NUMBER, text)
    return ("", 0) if last is None else (last.group().strip(), last.end())


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
