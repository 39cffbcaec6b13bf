"""How a text ends that announces nothing: with a bold value, with a formula on a line of its own, with a number."""

from __future__ import annotations

import re

from relax_rl.rewards.extraction.finding import Commitment, Extraction, last_match
from relax_rl.rewards.extraction.values import has_mathematics, is_denied, value_at_head

__all__ = ["bold_at_end", "display_at_end", "is_alone", "last_number"]

_BOLD = re.compile(r"(?:\*\*|__)(?P<inside>[^*\n]{1,200}?)(?:\*\*|__)")
_BOLD_END = re.compile(r"(?:\*\*|__)[\s.!\u3002\u2713\u2714\u2705)]*\Z")
_DISPLAY_END = re.compile(r"(?:\\\]|\$\$|\\end\{(?:align|equation|gather)\*?\})[\s.!\u3002\u2713\u2714\u2705]*\Z")
_OPENINGS = {"\\]": "\\[", "$$": "$$"}
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:align(?:ed)?|equation|gather(?:ed)?|split)\*?\}")
_LINE_BREAK = re.compile(r"\\\\(?:\[[^\]]*\])?|(?<!\\)&|\\(?:nonumber|notag)(?![A-Za-z])")
# A formula after such words is no result.
_OPEN = re.compile(
    r"\b(?:if|suppos\w+|assum\w+|let|guess|maybe|perhaps|possibly|unless|whether|would|could|might|consider|check|want"
    r"|need|find|solve|compute|try|recall|given|define|formula|where|example)\b",
    re.IGNORECASE,
)
_NUMERIC = re.compile(r"\d|\\(?:frac|sqrt|pi|infty|emptyset)|[A-Za-z]\s*=")
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?(?:\s?\\?%)?"
_BARE_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}(?!\d|\.\d|_)", re.ASCII)
_DELIMITED = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))
_ENDING_CHARS = 2000


def bold_at_end(text: str) -> Commitment | None:
    """The bold value that ends the last line; several in that line are one list, so that guesses gain nothing."""
    tail = text[-_ENDING_CHARS:].rstrip()
    if not _BOLD_END.search(tail):
        return None
    line = tail[tail.rfind("\n") + 1 :]
    bolds = [bold for bold in _BOLD.finditer(line) if _NUMERIC.search(bold["inside"])]
    if not bolds or not _BOLD_END.match(line, bolds[-1].end() - 2):
        return None
    if is_denied(line) or _OPEN.search(line) or "?" in line:
        return None
    values = [value_at_head(bold["inside"]) for bold in bolds]
    offset = len(text) - len(text[-_ENDING_CHARS:]) + len(tail) - len(line)
    if not all(values):
        return None
    return Commitment(offset + bolds[0].start(), offset + bolds[-1].end(), Extraction(", ".join(values), "bold"))


def is_alone(text: str, found: Commitment) -> bool:
    """Whether a bold value has its line for itself."""
    return not text[text.rfind("\n", 0, found.start) + 1 : found.start].strip(" \t>#-*")


def display_at_end(text: str) -> Commitment | None:
    """The formula between ``\\[ \\]``, ``$$ $$`` or in an ``align`` that ends the text."""
    tail = text[-_ENDING_CHARS:]
    end = _DISPLAY_END.search(tail)
    if end is None:
        return None
    if tail.startswith("\\end", end.start()):
        start = max(tail.rfind("\\begin{align", 0, end.start()), tail.rfind("\\begin{gather", 0, end.start()),
                    tail.rfind("\\begin{equation", 0, end.start()))  # fmt: skip
        begin = start
    else:
        opening = _OPENINGS[tail[end.start() : end.start() + 2]]
        start = tail.rfind(opening, 0, end.start())
        begin = start + 2
    if start < 0:
        return None
    before = re.split(r"[.!?]\s|\n\s*\n", tail[max(0, start - 200) : start].rstrip())[-1]
    content = _LINE_BREAK.sub(" ", _ENVIRONMENT.sub(" ", tail[begin : end.start()])).strip().rstrip(".,;")
    if not content or not has_mathematics(content) or is_denied(before) or _OPEN.search(before) or "?" in content:
        return None
    offset = len(text) - len(tail)
    return Commitment(offset + start, offset + end.start() + 2, Extraction(content, "display"))


def last_number(text: str) -> Commitment | None:
    """The last number, or the whole formula that it stands in: of ``\\(\\frac12\\)`` the 2 is no answer."""
    last = last_match(_BARE_NUMBER, text)
    if last is None:
        return None
    for opening, closing in _DELIMITED:
        formula = _around(text, last.start(), last.end(), opening, closing)
        if formula is not None:
            start, end = formula
            return Commitment(start, end, Extraction(text[start:end].strip(), "bare number"))
    return Commitment(last.start(), last.end(), Extraction(last.group(), "bare number"))


def _around(text: str, start: int, end: int, opening: str, closing: str) -> tuple[int, int] | None:
    """Where the inside of the formula around a place begins and ends; None if there is none on its line."""
    line_start = text.rfind("\n", 0, start) + 1
    begin = text.rfind(opening, line_start, start)
    finish = text.find(closing, end, end + _ENDING_CHARS)
    if begin < 0 or finish < 0 or start - begin > _ENDING_CHARS:
        return None
    if opening == closing:
        # An even number of signs before the place: the sign opens nothing, it is a currency or closes a formula.
        if text.count(opening, line_start, start) % 2 == 0 or "\n" in text[end:finish]:
            return None
    elif closing in text[begin:start]:
        return None
    return begin + len(opening), finish
