r"""Solutions with an integer parameter: ``\frac{\pi}{4} + 2k\pi``, ``n\pi`` for all integers n.

A family is a set of arithmetic progressions, each given by a formula and its parameter. Which progressions they are
takes algebra; which answers are families does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relax_rl.rewards.mathematics.grammar.names import letters_of
from relax_rl.rewards.mathematics.grammar.values import Value

__all__ = ["Family", "domain_of", "family_of"]

_PARAMETERS = frozenset("knmlhjt") - {"t", "h", "j"}
_INTEGERS = re.compile(
    r"\\in\s*\\?(?:math(?:bb|bf)\s*\{?|Bbb\s*)?\s*Z(?![A-Za-z])|(?<![A-Za-z])integers?(?![A-Za-z])", re.IGNORECASE
)
_NATURAL = re.compile(
    r"\\in\s*\\?(?:math(?:bb|bf)\s*\{?)?\s*N(?![A-Za-z])|\\g[et](?![A-Za-z])|>|positive|natural|negative|odd|even|Z\s*\}?\s*\^?_?\s*\{?\s*[+*]"
)
_PERIODIC = re.compile(r"\\pi(?![A-Za-z])|(?:180|360|90)\s*\^\\circ|\^\\circ")


@dataclass(frozen=True)
class Family:
    """Formulas, each with one parameter.

    Attributes:
        members: (formula, parameter).
        is_certain: whether the answer says so itself: beside another family, ``k\\pi`` is one, and alone a formula.
    """

    members: tuple[tuple[str, str], ...]
    is_certain: bool


def domain_of(condition: str) -> str:
    """``integers`` or ``some`` of them, as far as a condition says."""
    if _NATURAL.search(condition):
        return "some"
    return "integers" if _INTEGERS.search(condition) else ""


def family_of(value: Value, condition: str) -> Family | None:
    """The family that a value is, with the condition behind it; None if it is none, or not over all integers."""
    singles = value.singles()
    if not singles or value.entries() not in (None, value.members()) or value.rows() is not None:
        return None
    is_declared = domain_of(condition) == "integers"
    if condition and not is_declared:
        return None
    members = [(single.text, letters_of(single.text)) for single in singles]
    used = frozenset[str]().union(*(letters for _, letters in members))
    if not used or not used <= _PARAMETERS or any(len(letters) > 1 for _, letters in members):
        return None
    is_named = len(value.named()) == 1 or all(part.named() for part in value.members() or (value,))
    if not is_declared and not all(_PERIODIC.search(text) for text, letters in members if letters):
        return None
    is_certain = is_declared or is_named or _has_offset(members)
    return Family(tuple((text, next(iter(letters), "")) for text, letters in members), is_certain)


def _has_offset(members: list[tuple[str, frozenset[str]]]) -> bool:
    """Whether each is a sum, such as ``\\frac{\\pi}{4} + 2k\\pi``: a bare ``2 \\pi n`` is a formula like any other."""
    return all(re.search(r"\S\s*[-+]", text) for text, _ in members)
