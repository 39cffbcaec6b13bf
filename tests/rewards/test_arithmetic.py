"""Exact arithmetic on answers, without algebra: against Python's own fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest

from relax_rl.rewards import ExactVerifier, FormatVerifier, NumericVerifier
from relax_rl.rewards.countdown import evaluate
from relax_rl.rewards.mathematics.arithmetic import arithmetic
from relax_rl.rewards.mathematics.extraction import extract_answer


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
