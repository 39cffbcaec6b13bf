"""Gold answers of any form and type are read by the reader of completions; a bare one stays as it is."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from relax_rl.rewards import ChoiceVerifier, ExactVerifier, MathVerifier, NumericVerifier, read_gold
from relax_rl.rewards.extraction import chosen_pair, extract_answer, read_choice, stated_forms, written_forms
from relax_rl.rewards.mathematics.grammar.matching import same_in_place

READ: list[tuple[Any, str]] = [
    ("\\boxed{1,2,3}", "1,2,3"),
    ("$\\boxed{5\\text{ cm}}$", "5\\text{ cm}"),
    ("The answer is $42$.", "42"),
    ("#### 42", "42"),
    ("We add 40 and 2 = 42.\n#### 42", "42"),
    ("First \\boxed{7}. Then, as $x = 3$, the sum is \\boxed{42}.", "42"),
    ("<answer>42</answer>", "42"),
    ("Final Answer: The largest $n$ is 34.", "34"),
    ("\u7b54\u6848\u662f 7", "7"),
    ("**42**", "42"),
    (42, "42"),
    (4.0, "4"),
    (0.5, "0.5"),
    (-3, "-3"),
    (True, "True"),
    (Fraction(1, 2), "1/2"),
    (Decimal("2.50"), "2.50"),
    ([1, 2], "1, 2"),
    (["\\boxed{7}"], "7"),
    ((1, 2), "1, 2"),
    (np.int64(7), "7"),
    (np.float64(0.25), "0.25"),
    (np.array([1, 2]), "1, 2"),
]
BARE = [
    "42", " 42 ", "\\frac{1}{2}", "$10-4 n$", "(-\\infty, 3)", "\\text{Evelyn}", "odd $n$", "no solution", "yes",
    "x = 5, y = 7", "f(x)=cx \\text{ for any } c", "\\text{(B)}\\ \\frac{3}{5}", "the function is even", "\\[ 42 \\]",
    "\\{1, 2\\}", "1:2:3:\\ldots", "two lines", "5 \\text{ cm}", "a, b", "\\pi",
]  # fmt: skip
UNREADABLE: list[tuple[Any, str]] = [
    (None, "is None"),
    ("", "is empty"),
    ("  \n", "is empty"),
    (float("nan"), "is nan"),
    (float("inf"), "is inf"),
    ([], "empty list"),
    ([1, None], "is None"),
    ({"value": 42}, "mapping with the keys value"),
    (b"42", "bytes"),
    (object(), "of the type object"),
    ("so \\boxed{42", "unclosed box"),
    ("We begin with the first of these numbers and add to it all of those that follow in the row, one after "
     "the other, until none of them is left over at the end of it", "prose"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "text"), READ)
def test_a_gold_answer_is_read(gold: Any, text: str) -> None:
    assert read_gold(gold).text == text


@pytest.mark.parametrize("gold", BARE)
def test_a_bare_gold_answer_stays_as_it_is(gold: str) -> None:
    assert read_gold(gold).text == gold


@pytest.mark.parametrize(("gold", "words"), UNREADABLE)
def test_what_cannot_be_read_is_no_score_with_a_reason(gold: Any, words: str) -> None:
    read = read_gold(gold)
    assert read.text is None
    assert words in read.reason
    for verifier in (MathVerifier(), ExactVerifier(), NumericVerifier(), ChoiceVerifier()):
        (verdict,) = verifier.grade(["\\boxed{42}"], [gold])
        assert (verdict.score, verdict.reason) == (None, "gold unreadable")


def test_an_empty_bold_gold_is_no_score_beside_what_was_extracted() -> None:
    (verdict,) = MathVerifier().grade(["\\boxed{42}"], ["** **"])
    assert (verdict.score, verdict.reason, verdict.extracted, verdict.how) == (None, "gold unreadable", "42", "boxed")
    assert verdict.detail == "the gold answer is empty"


def test_golds_of_all_forms_score_one_against_their_answer() -> None:
    golds: list[Any] = ["\\boxed{42}", "The answer is $42$.", "#### 42", 42, 42.0, [42], "**42**"]
    for verifier in (MathVerifier(), NumericVerifier(), ExactVerifier()):
        assert verifier.score(["\\boxed{42}"] * len(golds), golds) == [1.0] * len(golds)
        assert verifier.score(["\\boxed{41}"] * len(golds), golds) == [0.0] * len(golds)


@pytest.mark.parametrize("gold", ["42", "\\frac{1}{2}", "x=5", "(1,2]", "3, 5", "\\text{Evelyn}", "B"])
def test_the_written_forms_of_a_gold_answer_are_read_as_it(gold: str) -> None:
    assert [extract_answer(form).text for form in written_forms(gold)] == [gold] * 3


def test_a_gold_answer_is_stated_as_far_as_a_policy_reads_it() -> None:
    for policy in ("default", "lenient"):
        assert stated_forms("#### 42", policy) == written_forms("42")
    for policy in ("strict", "verl-math-dapo"):
        assert stated_forms("#### 42", policy) == written_forms("42")[:1]
    prose = " ".join(["word"] * 26)
    assert stated_forms(prose, "default") == (f"So it is $\\boxed{{{prose}}}$.",)


# Multiple choice.

OPTIONS = ("10", "12", "\\frac{3}{5}", "14")


@pytest.mark.parametrize(
    ("gold", "completion", "options", "score"),
    [
        ("12", "\\boxed{(B) 12}", (), 1.0),
        ("12", "\\boxed{\\textbf{(B)}\\ 12}", (), 1.0),
        ("B", "\\boxed{\\textbf{(B)}\\ 12}", (), 1.0),
        ("B", "\\boxed{(C) 12}", (), 0.0),
        ("12", "\\boxed{(B) 13}", (), 0.0),
        ("B", "\\boxed{B: the second}", (), 1.0),
        ("\\text{(B)}\\ \\frac{3}{5}", "\\boxed{B}", (), 1.0),
        ("\\text{(B)}\\ \\frac{3}{5}", "\\boxed{0.6}", (), 1.0),
        ("\\text{(B)}\\ \\frac{3}{5}", "\\boxed{(B) 0.7}", (), 0.0),
        ("12", "\\boxed{12}. So the answer is (B).", (), 1.0),
        ("B", "\\boxed{12}. So the answer is (B).", (), 1.0),
        ("C", "\\boxed{12}. So the answer is (B).", (), 0.0),
        ("B", "\\boxed{12}", (), 0.0),
        ("B", "\\boxed{12}", OPTIONS, 1.0),
        ("B", "\\boxed{14}", OPTIONS, 0.0),
        ("C", "\\boxed{0.6}", OPTIONS, 1.0),
        ("12", "\\boxed{B}", OPTIONS, 1.0),
        ("12", "\\boxed{A}", OPTIONS, 0.0),
        ("B", "\\boxed{(B) 14}", OPTIONS, 0.0),
        ("14", "\\boxed{(B) 14}", OPTIONS, 0.0),
        ("B", "\\boxed{(B) 12}", OPTIONS, 1.0),
        ("A", "\\boxed{(A) or (B)}", (), 0.0),
        ("A", "\\boxed{(A), (B)}", (), 0.0),
        ("A", "\\boxed{A: is wrong}", (), 0.0),
        ("B", "\\boxed{(A) not (B)}", OPTIONS, 0.0),
    ],
)
def test_a_letter_with_its_value(gold: str, completion: str, options: tuple[str, ...], score: float) -> None:
    (verdict,) = MathVerifier(num_workers=1).grade([completion], [gold], options=[options])
    assert verdict.score == score


def test_the_choice_verifier_reads_the_options_texts() -> None:
    cities = ("Rome", "Paris", "London", "Berlin")
    completions = ["\\boxed{Paris}", "\\boxed{B}", "\\boxed{(B) Paris}", "\\boxed{(B) Rome}", "\\boxed{Rome}"]
    scores = [verdict.score for verdict in ChoiceVerifier().grade(completions, ["B"] * 5, options=[cities] * 5)]
    assert scores == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert ChoiceVerifier().score(completions, ["B"] * 5) == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_what_contradicts_itself_is_no_pair() -> None:
    found = extract_answer("\\boxed{(B) 14}")
    assert chosen_pair("B", found, "(B) 14", OPTIONS, same_in_place) is None
    assert read_choice("(B) 14").letter == "B"
    assert read_choice("P(A) = 3").letter == ""


def test_a_sentence_is_taken_to_the_letter_where_text_is_compared() -> None:
    gold = "Owen is a knave, and Mason is a knave."
    assert ExactVerifier().score([f"So <answer>{gold}</answer>", f"<answer>{gold[:-1]}</answer>"], [gold] * 2) == [1, 0]
    assert ExactVerifier().score(["<answer>It is Paris.</answer>"], ["Paris"]) == [1.0]
