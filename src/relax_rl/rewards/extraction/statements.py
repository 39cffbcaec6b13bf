"""Stated answers: "the answer is X", "Answer: X", "#### X" and a heading with X below it, in the table's languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relax_rl.rewards.extraction.finding import Commitment, Extraction
from relax_rl.rewards.extraction.languages import languages_of
from relax_rl.rewards.extraction.values import has_mathematics, is_denied, sentence, value_at_head

__all__ = ["last_statement", "later_statement", "read_inside"]

_MARKED = re.compile(r"####[ \t]*(?=[-+$\\(\[{.\d])")
_CORRECTED = re.compile(
    r"\b(?:(?:correct|right|actual|true)\s+(?:value|result|number|one|total)\s+(?:is|should\s+be|was)|should\s+be"
    r"|should\s+have\s+been|correction\s*:|(?:correcting|corrected)\W+(?:it\s+is|this\s+gives|we\s+get))[:*_ \t]*",
    re.IGNORECASE,
)
# "If the answer is 8, then ..." commits to nothing.
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|supposing|assume|assuming|whether|unless|imagine|pretend|wenn|falls|si|angenommen)\s+(?:that\s+)?"
    r"(?:(?:the|our|your|my|this|its|la|die|l'|le)\s*)?(?:(?:final|correct|right|whole)\s+)?$"
    r"|(?:\u5982\u679c|\u5047\u8bbe|\u5047\u5982|\u82e5)(?:\u6700\u7ec8)?$",
    re.IGNORECASE,
)
# "We check our answer: 3 + 4 = 7" and "it is the answer, and 12^8 is the largest power" name no answer.
_CHECKED = re.compile(
    r"\b(?:check|verify|confirm|test|substitute)\w*\s+(?:(?:that|if|whether|the|our|this|my|your|final)\s+){0,3}$"
    r"|\bis\s+(?:the|our|an)\s+$",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\b(?:and|by|but|which|where|because|since|if|when)\b|[,;()]", re.IGNORECASE)
_ABOUT = re.compile(
    r"\W*(?:approximately|approx|about|roughly|around|nearly|almost|close\s+to|\u2248|\\approx|\u7ea6|\u5927\u7ea6)",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"\W*(?:(?:strictly\s+)?(?:less|more|greater|larger|smaller|fewer|higher|lower)\s+than|at\s+(?:least|most)|between)\b",
    re.IGNORECASE,
)
# What prose says of an answer, beside naming it.
_REMARK = re.compile(
    r"(?:(?:indeed|also|now|therefore|thus|then|clearly|already|always)\s+)*(?:correct|right|reasonable|clear|valid|verified"
    r"|consistent|confirmed|obvious|unique|simplified|exact|fine|good|complete|inside|given|found|in\b|as\b|within|below"
    r"|above|shown|based|written|expressed|the\s+same|therefore$|thus$|then$|obtained|done|required|expected|an?\s|our\s"
    r"|your\s|my\s|this\b|that\b|it\b|what\b|how\b|easy|simple|still\s+unknown|unknown|unclear)",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"[\W_]*|[X?]|\\?boxed\s*(?:\{\s*\})?")
_OPTION = re.compile(r"\(?[A-Z]\)?")
# A stated answer ends within a line or so; what follows it is prose.
_STATED_CHARS = 600
_BEFORE_CHARS = 60
_MAX_TRIED = 32


def last_statement(text: str) -> Commitment | None:
    """The last statement that names an answer; a remark on one ("the answer is clear") is none.

    A sentence in words gives way to an earlier statement with a number or a formula.
    """
    words: Commitment | None = None
    for start, begin in _announced(text):
        found = _statement(text, start, begin)
        if found is None:
            continue
        stated = found.found.text or ""
        if has_mathematics(stated) or (len(stated.split()) <= 3 and not _REMARK.match(stated)):
            return found
        words = words or (None if _REMARK.match(stated) else found)
    return words


def later_statement(text: str, begin: int, boxed: str, *, is_corrected: bool) -> Commitment | None:
    """The statement that replaces a box or tag before ``begin``; None if nothing later commits to another answer.

    A denial of another answer, a bound, an approximation and prose replace nothing.

    Args:
        boxed: what the box holds.
        is_corrected: the text has taken the box back, so that "it should be 7" is a statement, too.
    """
    tail = text[begin:]
    for start, head in _announced(tail, is_corrected=is_corrected):
        found = _statement(tail, start, head)
        if found is None:
            continue
        stated = found.found.text or ""
        if _ABOUT.match(stated) or _BOUND.match(stated) or (is_denied(stated) and boxed not in stated):
            continue
        if has_mathematics(stated) or (not has_mathematics(boxed) and not _REMARK.match(stated)):
            return Commitment(begin + found.start, begin + found.end, found.found)
    return None


def read_inside(content: str) -> str:
    """What a tag or a box holds, without words that announce it: ``7`` of ``The answer is 7.``"""
    found = last_statement(content)
    return content if found is None or found.found.text is None else found.found.text


def _announced(text: str, *, is_corrected: bool = False) -> Iterator[tuple[int, int]]:
    """(start of the words, where the answer begins), the last first."""
    places = {(match.start(), match.end()) for match in _MARKED.finditer(text)}
    for language in languages_of(text):
        for pattern in (language.pattern, language.heading):
            places |= {(match.start(), match.end()) for match in pattern.finditer(text)}
    if is_corrected:
        places |= {(match.start(), match.end()) for match in _CORRECTED.finditer(text)}
    yield from sorted(places, key=lambda place: (place[1], place[0]), reverse=True)[:_MAX_TRIED]


def _statement(text: str, start: int, begin: int) -> Commitment | None:
    """The answer that begins at ``begin``; None if the words before it do not commit to it, or it is a question."""
    before, words = text[max(0, start - _BEFORE_CHARS) : start], text[start:begin]
    if not words.startswith("####") and (_SUPPOSED.search(before) or _CHECKED.search(before) or _ASIDE.search(words)):
        return None
    tail = text[begin : begin + _STATED_CHARS]
    lead = len(tail) - len(tail.lstrip(" \t\r\n*_`\"'"))
    if sentence(tail[lead:])[1]:
        return None
    value = value_at_head(tail)
    if _EMPTY.fullmatch(value):
        return None
    end = text.find(value, begin) + len(value)
    if is_denied(words):  # "la respuesta no es 7"
        value = f"{words}{value}"
    return Commitment(start, end, Extraction(value, "stated"))
