r"""An answer's text taken apart outside all brackets: round, square, curly, ``\langle``, ``\begin{...}``."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["enclosed", "pieces", "split"]

_OPENING = (
    r"\\begin\s*\{[a-z]*\*?\}|\\langle(?![A-Za-z])|\\[lL]?\{|\\lbrace(?![A-Za-z])|\\l(?:floor|ceil)(?![A-Za-z])|[(\[{]"
)
_CLOSING = r"\\end\s*\{[a-z]*\*?\}|\\rangle(?![A-Za-z])|\\\}|\\rbrace(?![A-Za-z])|\\r(?:floor|ceil)(?![A-Za-z])|[)\]}]"


@cache
def _scanner(separator: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<open>{_OPENING})|(?P<close>{_CLOSING})|(?P<mark>{separator})|\\.", re.DOTALL)


def pieces(text: str, separator: str) -> tuple[list[str], list[str]]:
    """The parts between the separators (a regular expression) outside all brackets, and the separators themselves."""
    parts, marks, depth, start = [], [], 0, 0
    for token in _scanner(separator).finditer(text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["mark"] and depth == 0:
            parts.append(text[start : token.start()].strip())
            marks.append(token["mark"].strip())
            start = token.end()
    return [*parts, text[start:].strip()], marks


def split(text: str, separator: str) -> list[str]:
    """The parts that are not empty."""
    return [part for part in pieces(text, separator)[0] if part]


def enclosed(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) of a text in one pair of brackets; None if the first closes before the end."""
    depth = 0
    first: re.Match[str] | None = None
    for token in _scanner("(?!)").finditer(text):
        if token["open"]:
            depth += 1
            if first is None:
                if token.start() > 0:
                    return None
                first = token
        elif token["close"]:
            depth -= 1
            if depth <= 0:
                if first is None or token.end() != len(text):
                    return None
                return (first.group(), text[first.end() : token.start()].strip(), token.group())
    return None
