"""Written forms of numbers, times, words and numerals, by hand: which are equal, which are not, which are left open."""

from __future__ import annotations

from fractions import Fraction

import pytest

from relax_rl.rewards.mathematics.literals import (
    canonical,
    exact,
    is_too_large,
    is_word,
    rational,
    same_literal,
    same_rational,
    tidy,
    with_decimal_points,
    without_e_notation,
)

NUMBERS: list[tuple[str, str | None]] = [
    ("12", "12"),
    ("-12", "-12"),
    ("+12", "12"),
    ("1,234.5", "1234.5"),
    ("3.", "3"),
    (".5", "1/2"),
    ("2e3", "2000"),
    ("2e-3", "1/500"),
    ("2\\times10^3", "2000"),
    ("2*10^{-3}", "1/500"),
    ("2\\cdot10^{12}", "2000000000000"),
    ("\\frac{1}{2}", "1/2"),
    ("\\frac{3}{1}", "3"),
    ("-\\frac{1}{2}", "-1/2"),
    ("\\frac{-1}{2}", "-1/2"),
    ("2\\frac{1}{2}", "5/2"),
    ("-2\\frac{1}{2}", "-5/2"),
    ("2\\frac{-1}{2}", None),
    ("\\frac{1}{0}", None),
    ("1/0", None),
    ("5/1", "5"),
    ("-3/6", "-1/2"),
    ("x", None),
    ("1" * 300, "1" * 300),
    ("1" * 301, None),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_a_number_is_read_exactly(text: str, value: str | None) -> None:
    assert rational(text) == (None if value is None else (Fraction(value), False))


def test_arithmetic_has_a_value_and_a_percent_sign_is_told() -> None:
    assert rational("50%") == (50, True)
    assert exact("50%") == (50, True)
    assert exact("5+7") == (12, False)
    assert exact("x") is None
    assert exact("9^{9^{9}}") is None
    assert (same_rational("1/2", "0.5"), same_rational("1/2", "x"), same_rational("x", "1/2")) == (True, None, None)
    assert (is_too_large("9^{9^{9^{9}}}"), is_too_large("2^{10}"), is_too_large("x")) == (True, False, False)
    assert (is_word("\\text{even}"), is_word("\\text{even, odd}"), is_word("\\text{x}"), is_word("even")) == (
        True,
        False,
        False,
        False,
    )


PAIRS = [
    # Percent: 50% beside a number is 50 or 1/2.
    ("50%", "50", True),
    ("50%", "1/2", True),
    ("50", "50%", True),
    ("1/2", "50%", True),
    ("50%", "50.0%", True),
    ("50%", "0.5%", False),
    ("50%", "5000", False),
    ("5000", "50%", False),
    ("0.005", "50%", False),
    ("1/3", "0.333", False),
    ("12", "5+7", True),
    # The time of the day, or a ratio.
    ("8:34", "8:34 p.m.", True),
    ("8:34 p.m.", "20:34", True),
    ("8:34 P.M.", "20:34", True),
    ("8:34 p.m.", "8:34 a.m.", False),
    ("20:34", "8:34 a.m.", False),
    ("12:30", "12:30 a.m.", True),
    ("8:34", "8:35", False),
    ("8:34", "9:34", False),
    ("3:10", "3/10", True),
    ("3/10", "3:10", True),
    ("3:10", "30%", False),
    ("3:10", "x", False),
    ("3:01", "3", True),
    ("3:00", "3", False),
    # Words.
    ("\\text{even}", "\\text{Even}", True),
    ("\\text{Even}", "even", True),
    ("\\text{even}", "\\text{odd}", False),
    # Numerals of a base; an answer may leave it out.
    ("52_8", "52", True),
    ("52_8", "52_{8}", True),
    ("52_8", "42_{10}", True),
    ("52_{10}", "52_8", False),
    ("52_8", "53", False),
    ("52_8", "89", False),
    ("52_8", "x", None),
    ("0.1_2", "0.1", True),
    ("1.01_2", "1.25_{10}", True),
    ("z_{36}", "35_{10}", True),
    ("a_2", "1", None),
    ("11_1", "11", None),
    # Letters.
    ("A", "B", False),
    ("(A)", "A", True),
    ("A", "x", None),
    ("x", "A", None),
]


@pytest.mark.parametrize(("gold", "answer", "same"), PAIRS)
def test_whether_two_answers_are_equal_without_algebra(gold: str, answer: str, same: bool | None) -> None:
    assert same_literal(gold, answer) is same


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("(5)", "5"),
        ("(A)", "A"),
        ("(x)", "(x)"),
        ("100, 200", "100;200"),
        ("100,200", "100,200"),
        ("1 1/2", "1\\frac{1}{2}"),
        ("1 000 000", "1000000"),
        ("10 20", "10 20"),
        ("a + b", "a+b"),
        ("5.", "5"),
        ("option B", "B"),
        ("\\text{ab} c", "abc"),
        ("0.1\\overline{6}", "\\frac{1}{6}"),
        ("0.(3)", "\\frac{1}{3}"),
        ("2.\\dot{3}", "\\frac{7}{3}"),
        (".\\overline{3}", "\\frac{1}{3}"),
        ("0.1\\dot{2}3\\dot{4}", "\\frac{137}{1110}"),
    ],
)
def test_one_spelling_for_many(text: str, form: str) -> None:
    assert canonical(text) == form


def test_spellings_of_other_conventions() -> None:
    assert tidy(" 5 , ") == "5"
    for text, points in (("3,5", "3.5"), ("1.234,5", "1234.5"), ("3{,}5", "3.5"), ("1, 2", "1, 2"), ("1,2,3", "1,2,3")):
        assert with_decimal_points(text) == points
    assert without_e_notation("4.5e33 and 2E-3") == "4.5 \\times 10^{33} and 2 \\times 10^{-3}"
