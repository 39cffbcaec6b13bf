r"""What an answer says of its value beside naming it: a denial in words, a chain of equations, an ellipsis.

A reader that looks for the value alone takes ``12 \text{ is wrong}``, ``7 = 12`` and ``1, 2, \ldots`` for the value in
them. Pure text work, linear in the length of the text.
"""

from __future__ import annotations

import re

__all__ = ["is_name", "qualifies", "sides"]

# Closed classes: words that deny or bound what stands beside them. Nouns, units and verbs are none of them.
_NEGATION = (
    r"not|no|non|never|neither|nor|none|cannot|isn'?t|aren'?t|wasn'?t|doesn'?t|don'?t|wrong|incorrect|false|invalid|untrue"
    r"|except|unless|nicht|kein|keine|nie|falsch|pas|jamais|faux|nunca|falso|incorrecto|incorrecta"
)
_BOUND = (
    r"at\s+(?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than"
    r"|or\s+(?:more|less|fewer|greater|larger|smaller|higher|lower|above|below|so)|plus|minus"
)
_QUALIFIED = re.compile(
    rf"(?<![A-Za-z\\])(?:{_NEGATION}|{_BOUND})(?![A-Za-z])"
    r"|\\(?:not|neg|lnot|nless|ngtr|nleq|ngeq|notin)(?![A-Za-z])|[不没沒非無无错錯誤未]|ない|[≠¬≮≯≰≱∉]",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(r"\\[lcdv]?dots[a-z]?(?![A-Za-z])|\.\.\.|[\u2026\u22ef]")

_EQUALS = re.compile(r"(?<![\\<>!:=])=(?!=)")
_OPENING, _CLOSING = "([{", ")]}"
_CONSTANT = re.compile(r"\\(?:pi|infty|sqrt|frac|cdot|times|ln|log|sin|cos|tan|exp|left|right|text|mathrm)(?![A-Za-z])")
_LETTER = re.compile(r"[A-Za-z]")
_IMAGINARY_OR_E = re.compile(r"(?<![A-Za-z])[ei](?![A-Za-z])")


def qualifies(gold: str, answer: str) -> bool:
    """Whether the answer denies, bounds or leaves open what it says, in a way in which the gold answer does not."""
    if set(map(str.casefold, _QUALIFIED.findall(answer))) - set(map(str.casefold, _QUALIFIED.findall(gold))):
        return True
    return _ELLIPSIS.search(answer) is not None and _ELLIPSIS.search(gold) is None


def sides(text: str) -> list[str]:
    """The sides of an equation or chain of them, split at the signs of equality outside all brackets."""
    found, depth, start = [], 0, 0
    places = {match.start() for match in _EQUALS.finditer(text)}
    for index, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and index in places:
            found.append(text[start:index].strip())
            start = index + 1
    return [*found, text[start:].strip()]


def is_name(side: str) -> bool:
    """Whether a side has a letter that is not a constant, so that it may stand for any value: ``x``, ``f(2)``."""
    return _LETTER.search(_IMAGINARY_OR_E.sub("", _CONSTANT.sub("", side))) is not None
