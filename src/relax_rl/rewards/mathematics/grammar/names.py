r"""What stands for a value without being one: ``x``, ``f(2)``, ``\angle ABC``, ``S_{MBCN}``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["FUNCTION", "in_their_order", "is_name", "letters_of", "same_name"]

_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau"
    r"|upsilon|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell|hbar|mathbb\{E\})(?![A-Za-z])"
)
_WORDS = r"\\(?:text|mathrm|textbf|mathbf|mathcal|operatorname|mbox|textit)\s*\{[^{}0-9]*[A-Za-z][^{}0-9]*\}"
_SUB = r"(?:\s*_\s*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\\[A-Za-z]+|[A-Za-z0-9]))?"
_ARGUMENTS = r"(?:\s*\([^()]{0,20}\)|\s*\\left\([^()]{0,20}\))?"
_HEAD = rf"(?:[A-Za-z]|[A-Z]{{2,5}}|[A-Za-z][a-z]{{3,}}|{_GREEK}|{_WORDS})"
_ATOM = (
    rf"(?:\\(?:m?angle|triangle|overline|widehat|overrightarrow|vec|hat|bar|tilde|max|min|measuredangle)(?![A-Za-z])\s*\{{?\s*)*"
    rf"{_HEAD}\s*\}}?{_SUB}'*{_ARGUMENTS}"
)
_NAME = re.compile(_ATOM)
# Of names that hardly are products: `\frac{NO}{BO}`, `V_1 : V_2`.
_LONG = r"(?:[A-Z]{2,5}|[A-Za-z]\s*_\s*(?:\{[^{}]*\}|[A-Za-z0-9])|\[[A-Z]{3,5}\])"
_RATIO = re.compile(rf"\\frac\s*\{{{_LONG}\}}\s*\{{(?:{_LONG}|[A-Z])\}}|{_LONG}\s*[/:]\s*(?:{_LONG}|[A-Z])")
_EXTREME = re.compile(r"\\(?:max|min)(?![A-Za-z]).{0,30}", re.DOTALL)
FUNCTION = re.compile(r"([A-Za-z])\s*\(\s*([a-z])\s*\)")
"""``f(x)``: the function, and its argument if that is a letter."""

_CONSTANT = re.compile(r"\\[A-Za-z]+|(?<![A-Za-z])[ei](?![A-Za-z_])")
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|mathrm|textrm)\s*\{[^{}]*\}")
_LETTER = re.compile(rf"{_GREEK}|[A-Za-z]")
_NOISE = re.compile(r"\s|\\(?:text|mathrm|mathbf|textbf|left|right|m?angle)(?![A-Za-z])|[{}]")


def is_name(side: str) -> bool:
    """Whether a side of an equation stands for what is on the other side."""
    return any(pattern.fullmatch(side) for pattern in (_NAME, _RATIO, _EXTREME)) and side not in ("e", "i", "\\pi")


def same_name(one: str, other: str) -> bool:
    """``X`` and ``x`` are one name, and so are ``f(x)`` and ``f(t)``."""
    first, second = FUNCTION.fullmatch(one), FUNCTION.fullmatch(other)
    if first and second:
        return first[1].casefold() == second[1].casefold()
    if first or second:
        return (first or second)[1].casefold() == (other if first else one).strip().casefold()  # type: ignore[index]
    return _NOISE.sub("", one).casefold() == _NOISE.sub("", other).casefold()


def in_their_order(names: Sequence[str]) -> list[str]:
    """By the alphabet where the names follow each other in it (``x, y``, ``p, q``), else as they are written."""
    letters = sorted(names)
    follow = all(len(name) == 1 for name in names) and all(
        ord(after) - ord(before) == 1 for before, after in pairwise(letters)
    )
    return letters if follow else list(names)


def letters_of(text: str) -> frozenset[str]:
    """The letters in an expression that are no constants: ``x``, ``\\theta``; not ``e``, ``i``, ``\\pi``, functions."""
    plain = _TEXT.sub(" ", text)
    greek = frozenset(re.findall(_GREEK, plain))
    return greek | frozenset(re.findall(r"[A-Za-z]", _CONSTANT.sub(" ", plain)))
