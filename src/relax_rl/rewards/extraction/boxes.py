"""Boxes: the last one that holds something, several that are one answer, and one that the text takes back."""

from __future__ import annotations

import re
from collections import deque

from relax_rl.rewards.extraction.finding import PLACEHOLDER, Commitment, Extraction

__all__ = ["is_retracted", "last_box", "restored"]

_BOX = re.compile(r"box(?:ed)?(?![A-Za-z>])")
# `\beginboxed{` and `<boxed{` are mangled boxes.
_BEFORE_BOX = re.compile(r"(?:\\(?:begin)?(?:f|frame)?|<)\Z")
_LONGEST_BEFORE = 12
_BRACE_OR_ESCAPE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"[ \t]*[^\s{}$]+")
_OPENING = re.compile(r"\s*\{")
# Between two boxes that are one answer: `\boxed{2}$ and $\boxed{3}`, `x = \boxed{1}, x = \boxed{9}`.
_GLUE = re.compile(r"[$&~]|\\[()\[\],;! ]|\\q?quad(?![A-Za-z])|\\(?:text|mbox)\s*\{|[{}]|\*\*")
_LABEL = r"(?:part\s*)?(?:\(?(?:[a-h]|\d{1,2}|[ivx]{1,4})\)[:.]?|(?:[a-h]|\d{1,2}|[ivx]{1,4})[.:])"
_NAME = r"(?:[a-z](?:_?\w)?\s*=)?"
_STOPS = (
    r"so|then|thus|hence|therefore|gives?|get|no|not|but|wait|actually|instead|rather|now|we|is|was|wrong|which|means"
    r"|because|since|from|using|check|again|maybe|perhaps|next|finally|correct|correction|simplif\w+|equals?"
)
_JOINT = re.compile(
    rf"\s*(?:{_LABEL}\s*[,;]?|(?:[,;]|[,;]?\s*(?:and|or|und|oder|et|ou|y|e|\u548c|\u6216|\u3001))\s*(?:{_LABEL})?)\s*{_NAME}\s*",
    re.IGNORECASE,
)
_WORDS_AND = re.compile(
    rf"\s*(?:(?!(?:{_STOPS})\b)[a-z]+\s+|\(?[a-h]\)\s+){{1,5}}and\s*(?:(?:the|for|part)\s+)*(?:{_LABEL})?\s*{_NAME}\s*",
    re.IGNORECASE,
)
_LINE_LABEL = re.compile(
    r"\s*[*#\-\u2022\s]{0,8}(?:part|question|case)?\s*\(?(?P<label>[a-h]|\d{1,2}|[ivx]{1,4})[).:]", re.IGNORECASE
)
_LABEL_BEFORE = re.compile(
    r"(?:^|[\s,;$(])(?:part\s*)?\(?(?P<label>[a-h]|\d{1,2}|[ivx]{1,4})\)[:.]?[\s$*]*(?:\\[(\[])?\s*(?:[A-Za-z]\s*=\s*)?$",
    re.IGNORECASE,
)
_JOINT_CHARS = 60
_LINE_CHARS = 300
_MAX_JOINED = 32
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
# The text takes back what stands before it.
_WRONG = (
    r"(?:wrong|incorrect|false|invalid|mistaken|not\s+(?:right|correct|it|the\s+(?:right\s+|correct\s+|final\s+)?answer)"
    r"|(?:a|an|my)\s+(?:mistake|error))"
)
_TAKEN_BACK = re.compile(
    rf"\A[\s$\\)\].,;:!*}}\u201d\"'-]*(?:(?:is|was|seems|looks)\s+(?:clearly\s+|obviously\s+)?{_WRONG}|\(?{_WRONG}\b)"
    rf"|(?:\A|[.!?,\n\u2014-])[\s$\\)\]*}}]{{0,6}}"
    rf"(?:(?:no|wait|hmm+|oh|oops|actually|sorry|but|hold\s+on)\b[,.!\u2026 ]*)*"
    rf"(?:(?:that|this|it|my\s+(?:answer|result)|the\s+(?:above|answer|box|boxed\s+answer|result))"
    rf"(?:'s|\s+(?:is|was|must\s+be|seems|looks))\s+(?:clearly\s+|obviously\s+)?{_WRONG}"
    r"|(?:that|this|it)\s+(?:isn'?t|wasn'?t|is\s+not)\s+(?:right|correct|it)\b|scratch\s+that|strike\s+that|ignore\s+that"
    r"|i\s+made\s+(?:a|an)\s+(?:\w+\s+)?(?:mistake|error)|correction\b|correcting\b|i\s+retract)",
    re.IGNORECASE,
)
_AFTER_CHARS = 2000


def restored(text: str) -> str:
    """The text with the boxes whose backslash sequence was read as an escape: ``\\b`` is a control character then."""
    return text.replace("\x08oxed", "\\boxed").replace("\x0cbox", "\\fbox")


def last_box(text: str) -> Commitment | None:
    """The last box that holds something, with those that it is joined to; None if there is no box."""
    joined: deque[str] = deque()
    start = last_end = 0
    for box_start, box_end in reversed(_boxes(text)):
        content, end = _group(text, box_end)
        if joined and (content is None or not _are_joined(text, box_start, end, start)):
            break
        if content is None:
            return Commitment(box_start, len(text), Extraction(None, "unclosed box"))
        if not PLACEHOLDER.fullmatch(content):
            joined.appendleft(content.strip())
            start, last_end = box_start, last_end or end
        elif joined:
            break
        if len(joined) == _MAX_JOINED:
            break
    if not joined:
        return None
    last = joined[-1] if len(joined) > 1 else None
    return Commitment(start, last_end, Extraction(", ".join(joined), "boxed", last))


def _boxes(text: str) -> list[tuple[int, int]]:
    """Where the commands of boxes begin and end; a bare ``boxed{`` has lost its backslash."""
    found: list[tuple[int, int]] = []
    for box in _BOX.finditer(text):
        before = _BEFORE_BOX.search(text[max(0, box.start() - _LONGEST_BEFORE) : box.start()])
        if before is not None:
            found.append((box.start() - len(before[0]), box.end()))
        elif (
            box[0] == "boxed"
            and text.startswith("{", box.end())
            and not text[max(0, box.start() - 1) : box.start()].isalpha()
        ):
            found.append((box.start(), box.end()))
    return found


def is_retracted(text: str, end: int) -> bool:
    """Whether the text after ``end`` takes back in words what stands before it."""
    return _TAKEN_BACK.search(text[end : end + _AFTER_CHARS]) is not None


def _are_joined(text: str, start: int, end: int, next_start: int) -> bool:
    """Whether a box and the next one are parts of one answer, by what stands between them or by their labels."""
    if next_start - end <= _JOINT_CHARS:
        plain = _GLUE.sub(" ", text[end:next_start])
        if _JOINT.fullmatch(plain) or _WORDS_AND.fullmatch(plain):
            return True
    following = {(kind, rank + 1) for kind, rank in _label(text, start)}
    return bool(following & _label(text, next_start))


def _label(text: str, start: int) -> set[tuple[str, int]]:
    """The ranks of the label before a box, each with its scale; nothing without a label."""
    before = text[max(0, start - _LINE_CHARS) : start]
    line = before[before.rfind("\n") + 1 :]
    found = _LABEL_BEFORE.search(before[-40:]) or _LINE_LABEL.match(line)
    return set() if found is None else _ranks(found["label"].lower())


def _ranks(label: str) -> set[tuple[str, int]]:
    ranks: set[tuple[str, int]] = set()
    if label.isdecimal():
        ranks.add(("number", int(label)))
    if label in _ROMAN:
        ranks.add(("roman", _ROMAN.index(label)))
    if "a" <= label <= "h":
        ranks.add(("letter", ord(label)))
    return ranks


def _group(text: str, position: int) -> tuple[str | None, int]:
    """The brace group that begins at ``position``, or the bare word there, and its end; None if it never closes."""
    opening = _OPENING.match(text, position)
    if opening is None:
        word = _UNBRACED.match(text, position)
        return (word.group().rstrip(".,;:"), word.end()) if word else ("", position)
    depth = 1
    for token in _BRACE_OR_ESCAPE.finditer(text, opening.end()):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return text[opening.end() : token.start()], token.end()
    return None, len(text)
