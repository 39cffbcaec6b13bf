"""Expressions of the grammar by their values, against Python's own functions, and texts that are none."""

from __future__ import annotations

import cmath
import math

import pytest

from relax_rl.rewards.mathematics.expressions import UnreadableError, parse
from relax_rl.rewards.mathematics.functions import OutsideError, Point
from relax_rl.rewards.mathematics.points import same_equation, same_progressions, same_value

X, Y = 1.7, -0.6

VALUES = [
    ("1+2-4", -1),
    ("--3", 3),
    ("-+3", -3),
    ("2\\cdot -3", -6),
    ("6/-2", -3),
    ("1/2/4", 1 / 8),
    ("3 \\div 4", 0.75),
    ("2\\frac{1}{2}", 2.5),
    ("2.0\\frac{1}{2}", 1),
    ("3\\cdot 2\\frac{1}{2}", 3),
    ("x\\frac{1}{2}", X / 2),
    ("2\\frac{1}{x}", 2 / X),
    ("\\frac12", 0.5),
    ("\\frac{12}{5}", 2.4),
    ("2x", 2 * X),
    ("xy", X * Y),
    ("x(y)", X * Y),
    ("2(3)4", 24),
    ("-x^2", -(X**2)),
    ("2^3^2", 512),
    ("2^{-1}", 0.5),
    ("2^-1", 0.5),
    ("2^{--1}", 2),
    ("2**3", 8),
    ("(-2)^3", -8),
    ("(1/2)^{1/3}", 0.5 ** (1 / 3)),
    ("0^{1/2}", 0),
    ("0^2", 0),
    ("\\sqrt{0}", 0),
    ("\\sqrt[3]{0}", 0),
    ("\\sqrt[4]{0}", 0),
    ("\\sqrt[2]{1/4}", 0.5),
    ("\\ln 1", 0),
    ("\\ln 0.5", math.log(0.5)),
    ("asin(1)", math.pi / 2),
    ("\\arccos(-1)", math.pi),
    ("\\text{arcsec}(1)", 0),
    ("\\text{arccsc}(-1)", -math.pi / 2),
    ("acosh(1)", 0),
    ("0!", 1),
    ("exp(-10)", math.exp(-10)),
    (" x ", X),
    ("\\sin -2y", -math.sin(2 * Y)),
    ("4^{1/2}", 2),
    ("5!", 120),
    ("6!!", 48),
    ("3!^2", 36),
    ("3!x", 6 * X),
    ("90^\\circ", math.pi / 2),
    ("90^{\\circ}", math.pi / 2),
    ("\\pi", math.pi),
    ("pi x", math.pi * X),
    ("e^x", math.exp(X)),
    ("|y|", -Y),
    ("|x|y|x|", X * Y * X),
    ("2|y|", -2 * Y),
    ("|(|y|)-1|", 0.4),
    ("\\lfloor x \\rfloor", 1),
    ("\\lceil x \\rceil", 2),
    ("\\lvert y \\rvert", -Y),
    ("\\sqrt{2}", math.sqrt(2)),
    ("\\sqrt2x", math.sqrt(2) * X),
    ("\\sqrt[3]{8}", 2),
    ("\\sqrt[3]{-8}", -2),
    ("\\sqrt[4]{16}", 2),
    ("\\sqrt[3]{x}", X ** (1 / 3)),
    ("cbrt(-27)", -3),
    ("sqrt(4)", 2),
    ("\\sin x", math.sin(X)),
    ("\\sin 2x", math.sin(2 * X)),
    ("\\sin -x", -math.sin(X)),
    ("\\sin^2 x", math.sin(X) ** 2),
    ("\\sin^{-1} y", math.asin(Y)),
    ("\\sin x \\cos y", math.sin(X) * math.cos(Y)),
    ("\\sin x / 2", math.sin(X) / 2),
    ("\\sin(x)y", math.sin(X) * Y),
    ("\\tan x", math.tan(X)),
    ("\\cot x", 1 / math.tan(X)),
    ("\\sec x", 1 / math.cos(X)),
    ("\\csc x", 1 / math.sin(X)),
    ("\\arctan x", math.atan(X)),
    ("acos(y)", math.acos(Y)),
    ("\\operatorname{asinh}(x)", math.asinh(X)),
    ("acosh(x)", math.acosh(X)),
    ("atanh(y)", math.atanh(Y)),
    ("sinh(x)-cosh(y)*tanh(x)", math.sinh(X) - math.cosh(Y) * math.tanh(X)),
    ("\\text{arcsec}(x)", math.acos(1 / X)),
    ("\\exp(x)", math.exp(X)),
    ("\\ln x", math.log(X)),
    ("\\log x", math.log(X)),
    ("\\lg x", math.log10(X)),
    ("\\log_2 8", 3),
    ("\\log_{x} 8", math.log(8, X)),
    ("\\log^2_2 8", 9),
    ("\\log_2^2 8", 9),
    ("log(8, 2)", 3),
    ("xsin(x)", X * math.sin(X)),
    ("nlog(x)", 3 * math.log(X)),
    ("\\binom{5}{2}", 10),
    ("binomial(5, 2)", 10),
    ("gcd(12, 18)", 6),
    ("lcm(4, 6)", 12),
    ("\\min(x, y)", Y),
    ("\\max(x, y)", X),
    ("\\operatorname{sgn}(y)", -1),
    ("gamma(5)", 24),
    ("factorial(4)", 24),
    ("ceiling(x)", 2),
    ("a_1 + a_{12}", 11),
    ("\\alpha + x", 7 + X),
    ("X", X),
    ("\\mathrm{x}", X),
]
POINT = {"x": X, "y": Y, "n": 3, "a_1": 4, "a_12": 7, "\\alpha": 7}


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_value_at_a_point(text: str, value: float) -> None:
    expression = parse(text)
    assert float(expression.evaluate(Point(POINT))) == pytest.approx(value, rel=1e-12, abs=1e-12)
    assert not expression.is_complex
    assert expression.letters <= POINT.keys()


COMPLEX = [
    ("i^2", -1),
    ("\\sqrt{-1}", 1j),
    ("\\ln(-1)", 1j * math.pi),
    ("(-8)^{1/3}", 2 * cmath.exp(1j * math.pi / 3)),
    ("\\sqrt[4]{-16}", 2 * cmath.exp(1j * math.pi / 4)),
    ("asin(2)", cmath.asin(2)),
    ("|3+4i|", 5),
]


@pytest.mark.parametrize(("text", "value"), COMPLEX)
def test_a_complex_value(text: str, value: complex) -> None:
    found = complex(parse(text).evaluate(Point({}, is_complex=True)))
    assert (found.real, abs(found.imag)) == pytest.approx((value.real, abs(value.imag)), abs=1e-12)
    assert parse("2i").is_complex
    assert not parse("x_i").is_complex


@pytest.mark.parametrize(
    "text",
    [
        "1/0", "\\sqrt{-1}", "\\ln 0", "\\ln(-1)", "\\lg(-1)", "(-8)^{1/3}", "\\sqrt[4]{-16}", "\\sqrt[0]{2}", "0^{-1}",
        "0^0", "0^{-1/2}", "asin(2)", "acos(-2)", "arcsec(1/2)", "acosh(1/2)", "atanh(1)",
        "\\text{arccsc}(0.5)", "2^{10000001}",
        "(-1)!", "100001!", "5!!!", "gcd(1/2, 2)", "lcm(0, 2)", "binom(100001, 2)", "binom(2, 100001)", "exp(10000001)",
    ],
)  # fmt: skip
def test_where_there_is_no_value(text: str) -> None:
    expression = parse(text)
    with pytest.raises(OutsideError):
        expression.evaluate(Point({}))


@pytest.mark.parametrize(
    "text",
    [
        "", "1+", "3 4", "x 4", "(1", "1)", "\\frac{1}", "|x", "\\frac123", "2^3!", "\\unknown", "abcd", "\\text{even}",
        "x_", "x_{1", "x_)", "\\sqrt[3", "\\sqrt[3)2", "binom(5)", "gcd(1, 2, 3)", "sin(1, 2)", "log(1, 2, 3)", "f(x",
        "é", "#", "\u0663", "x + \u0663", "gcd 2", "[1)", "(" * 61 + "1" + ")" * 61,
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse(text)


def test_limits_are_reached_and_not_passed() -> None:
    assert parse("binom(100000, 1)").evaluate(Point({})) == 100000
    assert parse("binom(100000, 100000)").evaluate(Point({})) == 1
    assert parse("100000!").evaluate(Point({})) > parse("exp(1000000)").evaluate(Point({}))
    assert parse("exp(10000000)").evaluate(Point({})) > 1
    assert parse("1^{10000000}").evaluate(Point({})) == 1
    assert parse("1000!").evaluate(Point({})) > 10**2000


def test_brackets_are_as_deep_as_sixty_and_unknown_functions_tell_their_arguments_apart() -> None:
    assert parse("(" * 59 + "1" + ")" * 59).evaluate(Point({})) == 1
    # One behind the other they are not deep.
    assert parse("+".join(["(1)", "\\frac{1}{1}", "|1|", "\\sqrt{1}", "{1}"] * 20)).evaluate(Point({})) == 100
    values = [parse(text).evaluate(Point({"x": 1.0, "y": 2.0})) for text in ("f(x)", "f(y)", "g(x)", "f_1(x)", "f(x)")]
    assert len(set(values)) == 4
    assert parse("f(x)").letters == {"x"}
    assert parse("f").letters == {"f"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("(x+1)^2", "x^2+2x+1", True),
        ("(x+1)^2", "x^2+2x+2", False),
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("1+10^{-40}", "1", False),
        ("10^{-90}", "0", False),
        ("\\sqrt{2}-\\sqrt{2}", "0", True),
        ("\\sqrt{3}\\sqrt{5}-\\sqrt{15}", "0", True),
        ("\\sin^2 x+\\cos^2 x-1", "0", True),
        ("\\sin^2 x+\\cos^2 x-1", "10^{-50}", False),
        ("10^{-90}", "2 \\cdot 10^{-90}", False),
        ("0!", "1", True),
        ("1/0", "1/0", None),
        ("1", "1/0", False),
        ("x", "1/0", False),
        ("\\sqrt{-1-x^2}", "x", False),
        ("\\sqrt{-1-x^2}", "\\sqrt{-1-x^2}", None),
        ("\\sqrt{x}", "x^{1/2}", True),
        ("9^{3000}", "9^{3000}", None),
        ("i\\sqrt{2}", "\\sqrt{-2}", True),
    ],
)
def test_equality_at_points(one: str, other: str, same: bool | None) -> None:
    assert same_value(parse(one), parse(other)) is same


def test_equations_that_differ_by_a_factor_and_unions_of_progressions() -> None:
    def equal(one: tuple[str, str], other: tuple[str, str]) -> bool | None:
        return same_equation([parse(side) for side in one], [parse(side) for side in other])

    assert equal(("x+y", "1"), ("2x+2y", "2")) is True
    assert equal(("x+y", "1"), ("y", "1-x")) is True
    assert equal(("x+y", "1"), ("x+2y", "1")) is None
    assert equal(("x", "x"), ("x", "x")) is None
    assert equal(("x", "9^{3000}"), ("x", "9^{3000}")) is None

    def together(golds: list[str], answers: list[str]) -> bool | None:
        families = [[(parse(text), "k") for text in texts] for texts in (golds, answers)]
        return same_progressions(*families)

    assert together(["k"], ["2k", "2k+1"]) is True
    assert together(["\\pi k"], ["\\pi - \\pi k"]) is True
    assert together(["k"], ["2k"]) is False
    assert together(["2k"], ["2k+1"]) is False
    assert together(["3k", "3k+1"], ["3k-2", "3k+3"]) is True
    assert together(["k/3"], ["k/2"]) is False
    assert together(["k"], ["\\pi k"]) is False
    assert together(["k^2"], ["k"]) is None
    assert together(["5"], ["k"]) is False
    assert together(["k", "5"], ["k", "5"]) is False
    assert together(["1/k"], ["k"]) is None
    assert together(["201k"], ["k"]) is False
