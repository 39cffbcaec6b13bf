r"""Vectors and matrices as they are written: ``pmatrix``, ``[[1, 2], [3, 4]]``, ``3\mathbf{i} - 2\mathbf{j}``."""

from __future__ import annotations

import re
from collections.abc import Callable

from relax_rl.rewards.mathematics.grammar.brackets import enclosed, pieces, split
from relax_rl.rewards.mathematics.grammar.values import Matrix, UnitVectors, Value

__all__ = ["read_matrix", "read_nested_lists", "read_unit_vectors"]

ReadOne = Callable[[str], Value]

_MATRIX = re.compile(
    r"\\begin\s*\{([bp]?matrix|[bp]?smallmatrix|array)\}(?:\s*\{[clr|\s]*\})?(.*)\\end\s*\{\1\}", re.DOTALL
)
_ROW = r"\\\\(?:\[[^\]]*\])?|\\cr(?![A-Za-z])"
_DRESS = (
    r"\\(?:math(?:bf|rm)|vec|hat|widehat|overrightarrow|bm|boldsymbol|textbf)\s*\{?\s*(?:\\math(?:bf|rm)\s*\{?\s*)?\\?"
)
_DRESSED = "|".join(rf"(?P<{letter}>{_DRESS}{letter}(?:math)?(?![A-Za-z])\s*\}}{{0,2}})" for letter in "ijk")
_TERM = re.compile(rf"\s*(?P<sign>[-+]?)\s*(?P<factor>[^-+]*?)\s*(?:{_DRESSED})", re.DOTALL)
_PLAIN_TERM = re.compile(r"\s*(?P<sign>[-+]?)\s*(?P<factor>[^-+ijk]*?)\s*(?:(?P<i>i)|(?P<j>j)|(?P<k>k))(?![A-Za-z])")
_PLAIN = re.compile(r"[\s\d.+*/{}\\fracij-]*j[\s\d.+*/{}\\fracijk-]*")


def read_matrix(text: str, one: ReadOne) -> Value | None:
    """An environment of rows, or None."""
    found = _MATRIX.fullmatch(text.strip("([])") if "array" in text else text)
    if found is None or "\\begin" in found[2]:
        return None
    rows = [row for row in split(found[2], _ROW) if row.strip()]
    cells = tuple(tuple(one(cell) for cell in pieces(row, r"&")[0]) for row in rows)
    return Matrix(text, cells) if cells and all(len(row) == len(cells[0]) for row in cells) else None


def read_nested_lists(text: str, one: ReadOne) -> Value | None:
    """``[[1, 2], [3, 4]]``, or None."""
    inside = enclosed(text)
    if inside is None or inside[0] != "[" or not inside[1].startswith("["):
        return None
    rows = [enclosed(part) for part in split(inside[1], ",")]
    cells = tuple(tuple(one(cell) for cell in split(row[1], ",")) for row in rows if row and row[0] == "[")
    return Matrix(text, cells) if len(cells) == len(rows) and len({len(row) for row in cells}) == 1 else None


def read_unit_vectors(text: str, one: ReadOne) -> Value | None:
    """A sum of multiples of i, j and k, or None; plain letters only with a j among them, since i alone is a number."""
    term_of = _TERM if re.search(_DRESS + "[ijk]", text) else _PLAIN_TERM
    if "=" in text or (term_of is _PLAIN_TERM and _PLAIN.fullmatch(text) is None):
        return None  # a name is no factor
    place, factors = 0, dict[str, str]()
    while place < len(text.rstrip()):
        term = term_of.match(text, place)
        if term is None:
            return None
        letter = next(letter for letter in "ijk" if term[letter])
        if letter in factors or (place and not term["sign"]):
            return None
        factors[letter] = term["sign"].replace("+", "") + (term["factor"].strip().rstrip("*").strip() or "1")
        place = term.end()
    if term_of is _PLAIN_TERM and not {"i", "j"} <= factors.keys():
        return None
    first, second, third = (one(factors.get(letter, "0")) for letter in "ijk")
    return UnitVectors(text, (first, second, third), is_plane="k" not in factors)
