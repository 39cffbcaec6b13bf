"""Exact arithmetic on answers, without algebra: against Python's own fractions."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest

from relax_rl.rewards import ExactVerifier, FormatVerifier, NumericVerifier, SoftOverlongPenalty
from relax_rl.rewards.countdown import evaluate
from relax_rl.rewards.extraction import extract_answer
from relax_rl.rewards.mathematics import literals
from relax_rl.rewards.mathematics.arithmetic import arithmetic
from relax_rl.rewards.mathematics.literals import tidy
from relax_rl.rewards.mathematics.units import in_same_unit, read_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0^2", 0),
        ("0^{-1}", None),
        ("0^0", None),
        ("1^{-2}", 1),
        ("(-1)^3", -1),
        ("2^{-2}", Fraction(1, 4)),
        ("2^{10}", 1024),
        (r"3\times 0", 0),
        ("0/3", 0),
        ("3/0", None),
        ("7/2", Fraction(7, 2)),
        ("5!!", 15),
        ("6!!", 48),
        ("0!", 1),
        ("(-2)!", None),
        ("4^{1/2}", None),
    ],
)
def test_the_value_is_exact_or_there_is_none(text: str, value: Fraction | int | None) -> None:
    assert arithmetic(text) == value


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_white_space_around_what_counts_is_none_of_it(blank: str) -> None:
    found = evaluate(f"{blank}1 + 2{blank}")
    assert found is not None
    assert found == (Fraction(3), [1, 2])
    thought = FormatVerifier(require=("think",))
    assert thought.score([f"<think>{blank}</think>12", f"<think>{blank}a{blank}</think>12"], ["12"] * 2) == [0.0, 1.0]


@pytest.mark.parametrize("end", ["", ".", ",", ";", ":", ".,"])
def test_a_bare_word_in_a_box_ends_before_its_punctuation(end: str) -> None:
    assert extract_answer(f"So \\boxed 12{end} That is it.").text == "12"


def test_a_verifier_says_what_it_takes_for_the_answer() -> None:
    assert ExactVerifier().extract("I say \\boxed{Paris}") == "Paris"
    assert NumericVerifier().extract("so it is 12") is None
    assert NumericVerifier(allow_bare_number=True).extract("so it is 12") == "12"


def test_a_completion_within_the_limit_costs_a_zero_without_a_sign() -> None:
    penalty = SoftOverlongPenalty(max_length=10, cache=4)
    assert [penalty.penalty(tokens) for tokens in (0, 6, 8, 10, 99)] == [0.0, 0.0, -0.5, -1.0, -1.0]
    assert math.copysign(1.0, penalty.penalty(0)) == 1.0


def test_an_answer_loses_its_punctuation_and_nothing_else() -> None:
    assert [tidy(text) for text in ("Paris,", "12.", "x;:", "$3$.", "a.b")] == ["Paris", "12", "x", "3", "a.b"]


@pytest.mark.parametrize(
    ("word", "factor"),
    [
        ("hundred", 10**2),
        ("thousand", 10**3),
        ("million", 10**6),
        ("billion", 10**9),
        ("trillion", 10**12),
        ("dozen", 12),
    ],
)
def test_a_word_for_a_number_is_that_number(word: str, factor: int) -> None:
    one, other = read_quantity(f"3\\text{{ {word} dollars}}"), read_quantity(f"{3 * factor}\\text{{ dollars}}")
    pair = in_same_unit(one, other)
    assert pair is not None
    assert Fraction(pair[0]) == Fraction(pair[1])


def test_plain_numbers_are_left_as_they_are_without_rewriting_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They skip forty rewrites; without the short cut the rewrites leave them as they are, too."""
    texts = ["0", "-7", "06", "1234567", "3.50", "-0.25", "\\frac{3}{7}", "-\\frac{12}{8}", "0.0", "\\frac{0}{0}"]
    quick = [(literals.tidy(text), literals.canonical(text)) for text in texts]
    monkeypatch.setattr(literals, "_PLAIN", re.compile("(?!)"))
    assert quick == [(literals.tidy(text), literals.canonical(text)) for text in texts] == [(t, t) for t in texts]
