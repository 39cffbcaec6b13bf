r"""From an answer's text to its typed value.

The grammar, from the outside in: a preamble ("the answer is"), a condition ("for n >= 1"), a phrase ("no solution"), a
choice with its value, a list of answers, then one answer: a union, set, tuple, interval, vector, matrix, inequality,
equation, ratio, or a single value. A text that is none of them is a single value, and equal to its own spelling only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from relax_rl.rewards.mathematics.grammar import regions
from relax_rl.rewards.mathematics.grammar.brackets import enclosed, pieces, split
from relax_rl.rewards.mathematics.grammar.families import Family, family_of
from relax_rl.rewards.mathematics.grammar.joints import OR, joined_by_marks, listed, signs
from relax_rl.rewards.mathematics.grammar.lists import Equation, Listed, Named, Ratio
from relax_rl.rewards.mathematics.grammar.names import is_name, letters_of
from relax_rl.rewards.mathematics.grammar.phrases import meaning_of, without_condition, without_preamble, without_remark
from relax_rl.rewards.mathematics.grammar.regions import Piece, Region
from relax_rl.rewards.mathematics.grammar.singles import is_rounded, kind_of
from relax_rl.rewards.mathematics.grammar.values import Choice, Meaning, Ordered, RealSet, Single, Value
from relax_rl.rewards.mathematics.grammar.vectors import read_matrix, read_nested_lists, read_unit_vectors
from relax_rl.rewards.mathematics.literals import tidy
from relax_rl.rewards.mathematics.units import with_currency_in_words

__all__ = ["Answer", "read"]

_MEMBER = re.compile(r"(?P<name>[A-Za-z]|\\theta)\s*\\in(?![a-z])\s*(?P<set>.+)", re.DOTALL)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:[^\d,^]|\^\s*\{?[\d\\])*", re.ASCII)
_CHOICE = re.compile(
    r"\s*(?P<text>\\(?:text|textbf|mathbf|mathrm|mbox)\s*\{\s*)?(?:\(([A-J])\)|([A-J])(?:\)|:(?=\s)|\.(?=\s)))"
    r"\s*(?P<close>\})?[\s:]*(?P<value>[^\s}].*)",
    re.DOTALL,
)
# What makes of a letter in parentheses a factor, an interval's end, a name.
_NO_VALUE = ("=", "\\in", "_", "^", ",", "+", "-", "(", "\\cup", "/", "\\lor")
_EQUALS = r"(?<![\\<>!:=])=(?!=)"
# A side that says more than a value.
_NO_SIDE = re.compile(
    r"[^\x00-\x7f]|[?#@&<>;]|\\\\|:=|\\(?:mid|ne|le|ge|to|mapsto|[rR]ightarrow|implies|neg|lnot|not|vs|equiv|sim)(?![A-Za-z])"
)
_ENVIRONMENT = re.compile(r"\\begin.*\\end\s*\{[a-z]+\}", re.DOTALL)
_APPROXIMATELY = r"\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])"
_DECIMAL = re.compile(r"[-+]?\d*\.?\d+(?:\s*\\(?:text|mathrm)\s*\{[^{}]*\})?|[-+]?[\d,]+\.?\d*", re.ASCII)
_RATIO = r"(?<!:):(?![=:])"
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?\s*(?:\\text\s*\{[^{}]*\}|[ap]\.?m\.?)?", re.ASCII | re.IGNORECASE)
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R|\(\s*-\\infty\s*,\s*\+?\\infty\s*\)")
_CUP = r"\\cup(?![A-Za-z])|(?<=[\])}])\s*U\s*(?=[(\[\\])"
_ANGLES = re.compile(r"(^|=\s*)<([^<>=]*,[^<>=]*)>$")
_WITHOUT = r"\\(?:setminus|backslash|smallsetminus)(?![A-Za-z])"


@dataclass(frozen=True)
class Answer:
    """A text that was read.

    Attributes:
        value: what it is.
        condition: what stands behind it in words.
        family: the value as solutions with an integer parameter, if it is that.
    """

    value: Value
    condition: str = ""
    family: Family | None = None

    @property
    def type(self) -> str:
        """See `Value.type`."""
        return "solution family" if self.family is not None and self.family.is_certain else self.value.type


@lru_cache(maxsize=4096)
def read(text: str) -> Answer:
    """The answer that a text is."""
    plain = without_remark(without_preamble(tidy(with_currency_in_words(text))))
    plain = _ANGLES.sub(r"\1\\langle \2\\rangle", plain)  # `<1, 2>`, before its comma makes a list of it
    meaning = meaning_of(plain)
    if meaning == "all real numbers":
        return Answer(Region(plain, (Piece("-\\infty", "\\infty", False, False),)))
    if meaning:
        return Answer(Meaning(plain, meaning))
    head, condition = without_condition(plain)
    value = _alternatives(joined_by_marks(head))
    return Answer(value, condition, family_of(value, condition))


def _alternatives(text: str) -> Value:
    """A choice with its value, a list of answers, or one answer."""
    if chosen := _choice(text):
        return chosen
    groups = split(text, rf";|{OR}")
    if len(groups) > 1 and all(len(split(group, ",")) > 1 for group in groups):
        tuples = tuple(_group(group) for group in groups)
        if ";" in text or all(value.named() for value in tuples):
            return Listed(text, tuples)
    before, _, last = text.rpartition("=")
    if "," in last and "," not in before and _THOUSANDS.fullmatch(last.strip()):
        return _one(text)
    parts, joints = listed(text)
    return _one(text.strip(" ,;")) if len(parts) < 2 else _list(text, parts, joints)


def _choice(text: str) -> Value | None:
    found = _CHOICE.fullmatch(text)
    if found is None or found["value"].startswith(_NO_VALUE):
        return None
    value = found["value"] if found["close"] or not found["text"] else "\\text{" + found["value"]
    return Choice(text, found[2] or found[3], _alternatives(value.strip()))


def _group(text: str) -> Value:
    """One of several tuples without parentheses: ``5, 2; 7, 2``."""
    values = tuple(_one(part) for part in split(text, ","))
    named = Listed(text, values)
    if named.named():
        return named
    return _single(text) if any(value.relation() for value in values) else Ordered(text, "(", values)


def _list(text: str, parts: Sequence[str], joints: set[str]) -> Value:
    is_alternative = joints == {"\\lor"}
    values = [_one(part) for part in parts]
    bounds = [region for value in values if (region := value.region()) and region.is_inequality]
    if len(bounds) == len(values):
        common = None if is_alternative else regions.intersection(text, bounds)
        if common is not None:
            return common
        both = None if "\\land" in joints else regions.union(text, bounds)
        return both or Listed(text, tuple(values), is_alternative=is_alternative)
    if (
        len(bounds) == 1
        and "\\ne" in parts[0]
        and (rest := regions.without(text, [bounds[0].parts[0].right, *parts[1:]]))
    ):
        return rest  # `x \ne 1, 2`
    sets = [region for value in values if (region := value.region())]
    if is_alternative and len(sets) == len(values) and "\\infty" in text and (whole := regions.union(text, sets)):
        return whole
    ((first, *others), names) = (values, [bool(value.named() or value.relation()) for value in values])
    if names[0] and not any(names[1:]):  # `n = 2, 3, 4`
        values = [*first.named().values(), *others] or values
    return Listed(text, tuple(values), is_alternative=is_alternative)


def _one(text: str) -> Value:
    """A single answer outside of all lists."""
    if member := _MEMBER.fullmatch(text):
        inside = _one(member["set"].strip())
        region = inside.region()
        return Named(text, member["name"], inside) if region is None else Region(text, region.parts, member["name"])
    return (
        _excluding(text)
        or _united(text)
        or _bracketed(text)
        or read_matrix(text, _one)
        or read_unit_vectors(text, _single)
        or regions.read_inequality(text)
        or _equation(text)
        or _ratio(text)
        or _single(text)
    )


def _single(text: str) -> Single:
    parts = split(text, ",") if _THOUSANDS.fullmatch(text) else []
    return Single(text, kind_of(text), letters_of(text), tuple(_single(part) for part in parts))


def _excluding(text: str) -> Value | None:
    parts = split(text, _WITHOUT)
    if len(parts) != 2 or not _REALS.fullmatch(parts[0]):
        return None
    inside = enclosed(parts[1])
    return regions.without(text, split(inside[1], ",")) if inside and inside[0] in ("\\{", "{") else None


def _united(text: str) -> Value | None:
    parts = split(text, _CUP)
    if len(parts) < 2:
        return None
    found: list[RealSet] = []
    for value in map(_one, parts):
        region = value.region()
        if region is None and value.type != "set":
            return None
        points = value.members() or ()
        found.append(region or Region(value.text, tuple(Piece(p.text, p.text, True, True) for p in points)))
    return regions.union(text, found)


def _bracketed(text: str) -> Value | None:
    inside = enclosed(text)
    if inside is None:
        return None
    opening, content, closing = inside
    parts = split(content, r"[,;]")
    if opening in ("\\{", "\\lbrace"):
        return _built(text, content) or _set(text, parts)
    if opening == "{":
        return _set(text, parts) if len(parts) > 1 else _alternatives(content) if parts else None
    if nested := read_nested_lists(text, _one):
        return nested
    if len(parts) < 2 or opening not in ("(", "[", "\\langle"):
        return None
    if len(parts) == 2 and opening != "\\langle":
        region = Region(text, (Piece(parts[0], parts[1], opening == "[", closing == "]"),))
        if opening + closing != "()":
            return region
        return Ordered(text, opening, tuple(_one(part) for part in parts), region)
    return (
        Ordered(text, opening, tuple(_one(part) for part in parts)) if opening + closing not in ("[)", "(]") else None
    )


def _set(text: str, parts: Sequence[str]) -> Value:
    return Listed(text, tuple(_one(form) for part in parts for form in signs(part)), is_set=True)


def _built(text: str, content: str) -> Value | None:
    r"""``\{x \mid x > 3\}`` is what its condition is."""
    builder = split(content, r"\\mid(?![A-Za-z])|\||:")
    if len(builder) != 2:
        return None
    name = builder[0].split("\\in")[0].strip()
    return _alternatives(builder[1]) if is_name(name) else _single(text)


def _equation(text: str) -> Value | None:
    sides, marks = pieces(text, _APPROXIMATELY)
    if marks and len(sides) == 2 and all(sides) and _DECIMAL.fullmatch(sides[1]):
        # `\sqrt{2} \approx 1.414` is the root, and `x \approx 1.414` the number.
        if is_name(sides[0]):
            return _one(f"{sides[0]} = {sides[1]}")
        return _one(sides[0]) if is_rounded(*sides) else _single(text)
    sides, marks = pieces(text, _EQUALS)
    if not marks or not all(sides):
        return None
    if any(_NO_SIDE.search(_ENVIRONMENT.sub("", side)) for side in sides):
        return _single(text)
    if len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]) and not letters_of(sides[0]):
        sides = sides[::-1]
    names = enclosed(sides[0])
    if names and len(sides) == 2 and names[0] == "(":
        return _named_tuple(text, split(names[1], ","), sides[1])
    if not is_name(sides[0]):
        return Equation(text, tuple(_one(side) for side in sides))
    *between, last = (_one(side) for side in sides[1:] if side == sides[-1] or not is_name(side))
    return Named(text, sides[0], last, tuple(between))


def _named_tuple(text: str, names: Sequence[str], value: str) -> Value | None:
    if not names or not all(map(is_name, names)):
        return None
    inside = enclosed(value)
    parts = split(inside[1], r"[,;]") if inside and inside[0] == "(" else []
    if len(names) != len(parts):
        return Named(text, "tuple", _one(value))
    return Listed(text, tuple(Named(f"{n}={v}", n, _one(v)) for n, v in zip(names, parts, strict=True)))


def _ratio(text: str) -> Value | None:
    parts, _ = pieces(text, _RATIO)
    if len(parts) < 2 or not all(parts) or _CLOCK.fullmatch(text):
        return None
    if len(parts) == 2:
        return _single(f"\\frac{{{parts[0]}}}{{{parts[1]}}}")
    return Ratio(text, tuple(_single(part) for part in parts))
