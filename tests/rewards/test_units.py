"""What counts as a unit behind a number, against conversions from public tables."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.rewards.mathematics.units import (
    Quantity,
    Unit,
    in_same_unit,
    read_quantity,
    with_currency_in_words,
    with_radians,
)

# (one, other): how many of the other make one. From the SI brochure and NIST SP 811, appendix B.
CONVERSIONS = [
    ("\\text{ in}", "\\text{ cm}", "2.54"),
    ("\\text{ miles}", "\\text{ km}", "1.609344"),
    ("\\text{ ft}", "\\text{ inches}", "12"),
    ("\\text{ square yards}", "\\text{ ft}^2", "9"),
    ("\\text{ acres}", "\\text{ m}^2", "4046.8564224"),
    ("\\text{ gallons}", "\\text{ liters}", "3.785411784"),
    ("\\text{ lb}", "\\text{ kg}", "0.45359237"),
    ("\\text{ pounds}", "\\text{ ounces}", "16"),
    ("\\text{ hours}", "\\text{ s}", "3600"),
    ("\\text{ weeks}", "\\text{ days}", "7"),
    ("\\text{ m/s}", "\\mathrm{~km}/\\mathrm{h}", "3.6"),
    ("\\text{ mph}", "\\text{ feet per hour}", "5280"),
    ("\\text{ J}", "\\text{ erg}", "1e7"),
    ("\\text{ dollars}", "\\text{ cents}", "100"),
    ("\\text{ cubic meters}", "\\text{ L}", "1000"),
    ("\\text{ years}", "\\text{ months}", "12"),
    ("\\text{ J}", "\\text{ N m}", "1"),
    ("\\text{ N}", "\\text{ kg m s}^{-2}", "1"),
    ("\\text{ W}", "\\text{ J/s}", "1"),
    ("\\text{ V}", "\\text{ W}/\\text{A}", "1"),
    ("\\text{ C}", "\\text{ A s}", "1"),
    ("\\text{ Pa}", "\\text{ N/m}^2", "1"),
    ("\\text{ kHz}", "\\text{ s}^{-1}", "1000"),
    ("\\text{ eV}", "\\text{ J}", "1.602176634e-19"),
    ("\\text{ calories}", "\\text{ joules}", "4.184"),
    ("\\text{ gigajoules}", "\\text{ MJ}", "1000"),
    ("\\text{ micrometers}", "\\text{ nm}", "1000"),
    ("\\text{ decimeters}", "\\text{ cm}", "10"),
    ("\\text{ mL}", "\\text{ cc}", "1"),
    ("\\text{ gallons}", "\\text{ quarts}", "4"),
    ("\\text{ quarts}", "\\text{ pints}", "2"),
    ("\\text{ pints}", "\\text{ cups}", "2"),
    ("\\text{ yd}", "\\text{ feet}", "3"),
    ("\\text{ cubic yards}", "\\text{ cu. ft.}", "27"),
    ("\\text{ feet squared}", "\\text{ sq in}", "144"),
    ("\\text{ meters cubed}", "\\text{ Liters}", "1000"),
    ("\\text{ km}^2", "\\text{ hectares}", "100"),
    ("\\text{ ha}", "\\text{ m}^2", "10000"),
    ("\\text{ days}", "\\text{ hours}", "24"),
    ("\\text{ minutes}", "\\text{ sec}", "60"),
    ("\\text{ kph}", "\\text{ km per hour}", "1"),
    ("\\text{ kmh}", "\\text{ km/h}", "1"),
    ("\\text{ gm}", "\\text{ grams}", "1"),
    ("\\text{ million dollars}", "\\text{ bucks}", "1000000"),
    ("\\text{ thousand feet}", "\\text{ yards}", "1000/3"),
    ("\\text{ hundred cm}", "\\text{ m}", "1"),
    ("\\text{ trillion euros}", "\\text{ billion euros}", "1000"),
]


@pytest.mark.parametrize(("one", "other", "factor"), CONVERSIONS)
def test_conversions(one: str, other: str, factor: str) -> None:
    pair = in_same_unit(read_quantity(f"1{one}"), read_quantity(f"{factor}{other}"))
    assert pair is not None
    assert Fraction(pair[0]) == Fraction(pair[1])


def test_degrees_are_radians_over_180_pi() -> None:
    pair = in_same_unit(read_quantity("90^\\circ"), read_quantity("1 \\text{ rad}"))
    assert pair is not None
    assert pair[1] == "1"
    assert eval(pair[0].replace("\\cdot", "*").replace("\\pi^{1}", str(math.pi))) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5\\text{ cm}", "5"), ("5cm", "5"), ("5 inches", "5"), ("5 \\text{ feet long}", "5"), ("42 apples", "42"),
        ("\\frac{1}{2} \\text{ of it}", "\\frac{1}{2}"), ("5\\sqrt{2} \\text{ m}^{2}", "5\\sqrt{2}"),
        ("5 in.", "5"), ("5 Miles", "5"), ("5 days.", "5"), ("5{ }cm", "5{ }"), ("x \\text{ cm}", "x"),
        ("(5) cm", "(5)"), ("5 km per hr", "5"), ("1,000 apples", "1,000"), ("1/2 apples", "1/2"),
        ("164 \\pi \\mbox{ square feet}", "164 \\pi"), ("12^\\circ", "12"), ("-5^\\circ C", "-5"),
        # Not units.
        ("5 CM", "5 CM"), ("42apples", "42apples"), ("42 of it", "42 of it"), ("x apples", "x apples"),
        ("50% off", "50% off"),
        ("5 m s", "5 m s"), ("2x m", "2x m"), ("5 cm = 6", "5 cm = 6"), ("+ cm", "+ cm"),
        ("3t", "3t"), ("2xm", "2xm"), ("3 a b", "3 a b"), ("x^2+1", "x^2+1"), ("\\text{ cm}", "\\text{ cm}"),
        ("\\text{even}", "\\text{even}"), ("28_9", "28_9"), ("a + b", "a + b"), ("\\cos 13^\\circ", "\\cos 13^\\circ"),
        ("4:30 \\text{ p.m.}", "4:30"), ("", ""), ("E_{1}", "E_{1}"), ("5 \\text{ and } 6", "5 \\text{ and } 6"),
    ],
)  # fmt: skip
def test_the_value_before_the_unit(text: str, value: str) -> None:
    assert read_quantity(text).value == value


def test_a_letter_is_no_certain_unit() -> None:
    assert [read_quantity(text).is_certain for text in ("5 m", "5 cm", "5 m/s^2", "5\\text{ m}")] == [
        False, True, False, True
    ]  # fmt: skip


def test_currency() -> None:
    assert with_currency_in_words("\\$18") == with_currency_in_words("$18") == "18 \\text{ dollars}"
    assert with_currency_in_words("$x$") == "$x$"
    assert with_currency_in_words("\\$5 + \\$6") == "\\$5 + \\$6"


units = st.builds(
    Unit,
    st.dictionaries(st.sampled_from("mgs"), st.integers(-3, 3).filter(bool)).map(lambda d: tuple(sorted(d.items()))),
    st.fractions(Fraction(1, 100), 100),
)


@given(units, units, st.integers(-3, 3))
def test_units_form_a_group(one: Unit, other: Unit, power: int) -> None:
    assert one * other == other * one
    assert one * one**-1 == Unit()
    assert (one * other) ** power == one**power * other**power if power else True


@pytest.mark.parametrize(
    "text", ["a " * 10**5, "5" + " cm" * 10**5, "\\text{cm}" * 10**5, "5" + "/" * 10**6, "^2" * 10**6]
)
def test_linear_time(text: str) -> None:
    started = time.process_time()
    read_quantity(text)
    assert time.process_time() - started < 8.0


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        ("3 \\text{ million}", "3000000"),
        ("2 dozen", "24"),
        ("1.5 \\text{ thousand}", "1500"),
        ("x \\text{ hundred}", "100 \\cdot (x)"),
        ("50% \\text{ million}", "1000000 \\cdot (50%)"),
        ("3 \\text{ cm}", "3"),
        ("3 apples", "3"),
    ],
)
def test_words_of_scale_are_a_part_of_the_number(text: str, scaled: str) -> None:
    assert read_quantity(text).scaled == scaled


def test_what_measures_different_things_is_not_compared_and_bare_degrees_may_be_of_either_scale() -> None:
    def compared(one: str, other: str) -> tuple[str, str] | None:
        return in_same_unit(read_quantity(one), read_quantity(other))

    assert compared("5 \\text{ cm}", "5 \\text{ kg}") is None
    assert compared("5 \\text{ cm}", "5 \\text{ cm}^2") is None
    assert compared("5 \\text{ square units}", "6 \\text{ cm}^2") == ("5", "6")
    assert compared("5 \\text{ units}", "6 \\text{ square units}") is None
    assert compared("5^\\circ", "6 \\text{ degrees Celsius}") == ("5", "6")
    assert compared("5^\\circ F", "6^\\circ") == ("5", "6")
    assert compared("5^\\circ C", "5 \\text{ degrees Fahrenheit}") is None
    assert compared("5 \\text{ cm}", "6 \\text{ centimeters}") == ("5", "6")


def test_a_value_with_pi_is_in_radians_beside_degrees() -> None:
    degrees, angle, plain = read_quantity("90^\\circ"), Quantity("\\frac{\\pi}{2}", None), Quantity("2", None)
    assert with_radians(degrees, angle)[0] is degrees
    assert with_radians(angle, degrees)[1] is degrees
    for one, other in (with_radians(degrees, angle), with_radians(angle, degrees)[::-1]):
        pair = in_same_unit(one, other)
        assert pair == ("1/2 \\cdot \\pi^{1}", "\\frac{\\pi}{2}")
    for pair in ((degrees, plain), (plain, degrees), (angle, plain), (read_quantity("5 \\text{ cm}"), angle)):
        assert with_radians(*pair) == pair
