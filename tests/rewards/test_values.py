r"""Which values are equal whatever they are written as, and what a single value asks of algebra.

``same_single`` is given an algebra that knows a few pairs by heart; every pair that it is asked for is a claim.
"""

from __future__ import annotations

import pytest

from relax_rl.rewards.mathematics.grammar.matching import same_in_place
from relax_rl.rewards.mathematics.grammar.singles import is_rounded, kind_of, same_single


def matrix(rows: str) -> str:
    return f"\\begin{{pmatrix}}{rows}\\end{{pmatrix}}"


IJ, IJK = "\\mathbf{i} + 2\\mathbf{j}", "\\mathbf{i} + 2\\mathbf{j} + 3\\mathbf{k}"


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        # The letter of a choice, with and without its value.
        ("B", "(B) 12", True),
        ("B", "(C) 12", False),
        ("B", "b", True),
        ("B", "c", False),
        ("B", "12", False),
        ("(B) 12", "(B)", True),
        ("(B) 12", "(C)", False),
        ("(B) 12", "12.0", True),
        ("(B) 12", "13", False),
        ("(B) 12", "(B) 12.0", True),
        ("(B) 12", "(B) 13", False),
        ("(B) 12", "(C) 12", False),
        ("12", "(B) 12.0", True),
        ("13", "(B) 12", False),
        # Tuples, vectors and intervals.
        ("(1, 2)", "1 < x < 2", True),
        ("(1, 2)", "1 \\le x < 2", False),
        ("(1, 2, 3)", "1 < x < 2", False),
        ("[1, 2, 3]", "(1, 2, 3)", True),
        ("(1, 2)", matrix("1\\\\2"), True),
        ("(1, 2)", matrix("2\\\\1"), False),
        ("(1, 2)", matrix("1&2\\\\3&4"), False),
        ("\\{(1, 2), (3, 4)\\}", "(3, 4), (1, 2)", True),
        ("\\{(1, 2), (3, 4)\\}", "(3, 4), (2, 1)", False),
        (matrix("1&2"), "(1, 2)", True),
        (matrix("1\\\\2"), "\\langle 1, 2 \\rangle", True),
        (matrix("1\\\\2"), "\\langle 1, 2, 0 \\rangle", False),
        (matrix("1&2"), matrix("1\\\\2"), False),
        (matrix("1&2\\\\3&4"), matrix("1&2\\\\3&4.0"), True),
        (matrix("1&2\\\\3&4"), matrix("1&2\\\\3&5"), False),
        (matrix("1&2\\\\3&4"), matrix("1&2\\\\3&4\\\\5&6"), False),
        (matrix("1&2\\\\3&4"), matrix("1&2&0\\\\3&4&0"), False),
        (matrix("1&2\\\\3&4"), "(1, 2)", False),
        (matrix("1&2\\\\3&4"), "5", False),
        (matrix("2&4\\\\6&8"), f"2{matrix('1&2 3&4')}", None),
        (f"2{matrix('1&2 3&4')}", matrix("2&4\\\\6&8"), None),
        (f"2{matrix('1&2 3&4')}", "(1, 2)", False),
        (matrix("1&2\\\\3&4"), f"5, 2{matrix('1&2 3&4')}", False),
        # Unit vectors: in the plane or in space as long as the third is zero.
        (IJ, "(1, 2)", True),
        (IJ, "(1, 2, 0)", True),
        (IJ, "(1, 2, 3)", False),
        (IJ, "(2, 1)", False),
        (IJ, "5", False),
        (IJK, "(1, 2, 3)", True),
        (IJK, "(1, 2)", False),
        (IJK, IJ, False),
        ("(1, 2)", IJ, True),
        ("(1, 2, 0)", IJ, True),
        ("(1, 2)", IJK, False),
        ("(1, 2, 3)", IJK, True),
        (f"\\{{{IJ}, {IJK}\\}}", f"{IJK}, {IJ}", True),
        (matrix("1\\\\2"), IJ, True),
        # Phrases.
        ("\\text{no solution}", "\\emptyset", True),
        ("\\text{no solution}", "\\text{infinitely many}", False),
        ("\\text{no solution}", "5", False),
        ("5", "\\text{no solution}", False),
        ("\\text{all real numbers}", "(-\\infty, \\infty)", True),
        # Numbers that a list may hold as well.
        ("1,234", "1234", True),
        ("1, 234", "1,234", True),
        ("\\{1, 234\\}", "1,234", True),
        ("1,234", "1,235", False),
    ],
)
def test_which_two_values_are_equal(gold: str, answer: str, same: bool | None) -> None:
    assert same_in_place(gold, answer) is same


@pytest.mark.parametrize(
    ("value", "decimal", "may_be"),
    [
        ("\\frac{1}{3}", "0.33", True),
        ("\\frac{1}{3}", "3", False),
        ("1", "1.05", True),
        ("1", "1.06", False),
        ("-1", "-0.95", True),
        ("-1", "1", False),
        ("100", "95", True),
        ("100", "94", False),
        ("\\sqrt{2}", "7", True),  # not known without algebra
    ],
)
def test_a_decimal_may_be_a_rounded_value_within_a_twentieth(value: str, decimal: str, may_be: bool) -> None:
    assert is_rounded(value, decimal) is may_be


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-\\infty", "number"),
        ("1/2", "number"),
        ("12.5%", "percent"),
        ("x%", "percent"),
        ("8:30 p.m.", "time"),
        ("(C)", "choice"),
        ("K", "expression"),
        ("\\text{Monday}", "text"),
        ("7 \\text{ euros}", "money"),
        ("7 \\text{ dollars per hour}", "money"),
        ("7 \\text{ km}", "quantity"),
        ("7 \\text{ apples}", "expression"),
        ("7 \\text{ million}", "expression"),
        ("\\sqrt{7}", "expression"),
    ],
)
def test_kinds_of_single_values(text: str, kind: str) -> None:
    assert kind_of(text) == kind


class Algebra:
    """Equal are the pairs that it is given; those with a question mark it cannot tell."""

    def __init__(self, *equal: tuple[str, str]) -> None:
        self.equal = equal
        self.asked: list[tuple[str, str]] = []

    def __call__(self, gold: str, answer: str) -> bool | None:
        self.asked.append((gold, answer))
        return None if "?" in gold + answer else (gold, answer) in self.equal


def asked(gold: str, answer: str, *equal: tuple[str, str]) -> tuple[bool | None, list[tuple[str, str]]]:
    algebra = Algebra(*equal)
    return same_single(gold, answer, algebra), algebra.asked


def test_a_percent_sign_on_one_side_is_a_hundredth_or_nothing() -> None:
    hundredth = "\\frac{\\sqrt{2}}{100}"
    assert asked("\\sqrt{2}%", "a") == (False, [("\\sqrt{2}", "a"), (hundredth, "a")])
    assert asked("\\sqrt{2}%", "a", (hundredth, "a"))[0] is True
    assert asked("\\sqrt{2}%", "a", ("\\sqrt{2}", "a"))[0] is True
    assert asked("a", "\\sqrt{2}%") == (False, [("a", "\\sqrt{2}"), ("a", hundredth)])
    assert asked("a", "\\sqrt{2}%", ("a", hundredth))[0] is True
    assert asked("a?", "\\sqrt{2}%")[0] is None
    # On both sides it is the same one.
    assert asked("\\sqrt{2}%", "\\sqrt{3}%") == (False, [("\\sqrt{2}", "\\sqrt{3}")])


def test_units_are_converted_before_algebra_is_asked() -> None:
    metres, centimetres = "\\sqrt{2} \\text{ m}", "x \\text{ cm}"
    assert asked(metres, centimetres) == (False, [("\\sqrt{2}", "1/100 \\cdot (x)")])
    assert asked(metres, centimetres, ("\\sqrt{2}", "1/100 \\cdot (x)"))[0] is True
    assert asked(metres, "x \\text{ kg}") == (False, [])
    assert asked(metres, "x") == (False, [("\\sqrt{2}", "x")])
    assert asked("x", metres) == (False, [("x", "\\sqrt{2}")])
    # A scale of the answer may be that of the question; the gold answer's is a part of the number.
    assert asked("x", "\\sqrt{2} \\text{ million}") == (
        False, [("x", "1000000 \\cdot (\\sqrt{2})"), ("x", "\\sqrt{2}")]
    )  # fmt: skip
    assert asked("\\sqrt{2} \\text{ million}", "x") == (False, [("1000000 \\cdot (\\sqrt{2})", "x")])
    assert asked("\\sqrt{2}? \\text{ cm}", "x")[0] is None
    # `5 m` is five metres beside a number, and a product beside a letter.
    assert asked("\\sqrt{2}", "5 m") == (False, [("\\sqrt{2}", "5")])
    assert asked("y", "5 m") == (False, [("y", "5 m")])


def test_infinities_are_equal_to_themselves_alone() -> None:
    for gold, answer, same in (
        ("\\infty", "+\\infty", True), ("+\\infty", "\\infty", True), ("-\\infty", "-\\infty", True),
        ("\\infty", "-\\infty", False), ("\\infty", "\\sqrt{2}", False), ("\\sqrt{2}", "-\\infty", False),
    ):  # fmt: skip
        assert asked(gold, answer) == (same, [])
