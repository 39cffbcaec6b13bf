"""The countdown verifier against an independent evaluator, hand-worked verdicts and hostile text."""

from __future__ import annotations

import operator
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier, committed_expression, evaluate

GOLD = "11 1 3>14"
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def score(completion: str, answer: str = GOLD) -> float | None:
    return CountdownVerifier().score([completion], [answer])[0]


def answered(expression: str, answer: str = GOLD) -> float | None:
    return score(f"<answer>{expression}</answer>", answer)


def test_it_is_a_verifier():
    assert isinstance(CountdownVerifier(), Verifier)
    assert CountdownVerifier().name == "countdown"


# A tree is a whole number or (sign, left, right): its value is computed without any text.
trees = st.recursive(
    st.integers(0, 99), lambda inner: st.tuples(st.sampled_from(sorted(SIGNS)), inner, inner), max_leaves=8
)


def leaves(tree) -> list[int]:
    return [tree] if isinstance(tree, int) else leaves(tree[1]) + leaves(tree[2])


def value(tree) -> Fraction | None:
    if isinstance(tree, int):
        return Fraction(tree)
    left, right = value(tree[1]), value(tree[2])
    if left is None or right is None or (tree[0] == "/" and right == 0):
        return None
    return SIGNS[tree[0]](left, right)


def text(tree) -> str:
    return str(tree) if isinstance(tree, int) else f"({text(tree[1])} {tree[0]}{text(tree[2])})"


@given(trees)
def test_bracketed_expressions_have_the_value_of_their_tree(tree):
    expected = value(tree)
    assert evaluate(text(tree)) == (None if expected is None else (expected, leaves(tree)))


@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 99)), min_size=1, max_size=9))
def test_precedence_without_brackets_is_that_of_exact_python(pairs):
    """Python itself is the oracle, on text that this test wrote, with each number made an exact fraction."""
    terms = [("", 7), *pairs]
    oracle = eval("".join(f"{sign}Fraction({number})" for sign, number in terms), {"Fraction": Fraction})
    assert evaluate("".join(f"{sign}{number}" for sign, number in terms)) == (oracle, [number for _, number in terms])


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("11+1*3", 1.0),
        ("(11*1)+3", 1.0),
        ("11 * 1 + 3", 1.0),
        ("3 - (1 - 11) * 1", 0.0),  # 1 twice
        ("3-(1-11)", 0.0),  # 13, by way of a negative number
        ("11+3", 0.0),  # 14, but 1 is left over
        ("11+3+1-1", 0.0),  # 14, but 1 twice
        ("14", 0.0),  # not one of the numbers
        ("11+1+3", 0.0),
        ("11+1*3=14", 0.0),  # an equation is not an expression
        ("11*1+3.0", 0.0),
        ("-1*11*3", 0.0),  # no signed numbers
        ("1 1+1*3", 0.0),  # two numbers without a sign between them
        ("11*1+3)", 0.0),
        ("(11*1+3", 0.0),
        ("11*1+3 11", 0.0),
        ("11×1+3", 1.0),
        (r"11 \times 1 + 3", 1.0),
        (r"\left(11 \cdot 1\right) + 3", 1.0),
        ("$11*1+3$", 1.0),
    ],
)
def test_hand_worked_verdicts(expression: str, verdict: float):
    assert answered(expression) == verdict


def test_arithmetic_is_exact():
    assert answered("1/3*3*7", "1 3 3 7>7") == 1.0
    assert answered("8/(3-8/3)", "8 8 3 3>24") == 1.0
    assert answered("1/(1-49/49)", "1 1 49 49>1") == 0.0
    # In float64 the large number would swallow the 1.
    assert answered("999999999*999999999+1-999999999*999999999", "1 999999999 999999999 999999999 999999999>1") == 1.0


def test_the_bounds_are_where_the_docstring_says():
    assert evaluate("(" * 32 + "1" + ")" * 32) == (1, [1])
    assert evaluate("(" * 33 + "1" + ")" * 33) is None
    assert evaluate("999999999+1") == (10**9, [999999999, 1])
    assert evaluate("1000000000") is None
    assert evaluate("1+" * 127 + "10") == (137, [1] * 127 + [10])
    assert evaluate("1+" * 127 + "100") is None  # 257 characters


@pytest.mark.parametrize(
    ("completion", "committed"),
    [
        ("<answer>1</answer> then <answer>2</answer>", "2"),
        ("<answer>1</answer> then <answer>2", "1"),  # the last one was never finished
        ("<answer>1</answer> 2</answer>", "1"),
        ("<answer>1<answer>2</answer>", "2"),
        ("</answer>1<answer>", None),
        (r"\boxed{1} <answer>2</answer> \boxed{3}", "2"),
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} \boxed{2", None),
        ("", None),
        ("11*1+3", None),
    ],
)
def test_what_counts_as_committed(completion: str, committed: str | None):
    assert committed_expression(completion) == committed


HOSTILE = {
    "brackets": "<answer>" + "(" * 10**6 + "1" + ")" * 10**6 + "</answer>",
    "brackets within the length bound": "<answer>" + "(" * 120 + "1" + ")" * 120 + "</answer>",
    "powers": "<answer>9**9**9</answer>",
    "huge number": "<answer>" + "9" * 10**6 + "</answer>",
    "ten digits": "<answer>1111111111+1*3</answer>",
    "null bytes": "<answer>11*1+3\x00</answer>",
    "only nulls": "\x00" * 10**6,
    "arabic digits": "<answer>١١*١+٣</answer>",
    "fullwidth digits": "<answer>１１*１+３</answer>",
    "superscript": "<answer>11*1+3²</answer>",
    "division by zero": "<answer>11/(1-1)+3</answer>",
    "call": "<answer>__import__('os').getpid()</answer>",
    "opening tags": "<answer>" * 10**5,
    "closing tags": "</answer>" * 10**5,
    "boxes": "\\boxed{" * 10**5,
    "boxes and braces": "\\boxed{" * 10**5 + "}" * 10**5,
    "long product": "<answer>" + "*".join(["9"] * 128) + "</answer>",
    "lone surrogate": "<answer>\ud800</answer>",
    "empty answer": "<answer></answer>",
    "sign only": "<answer>+</answer>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_scores_zero_in_bounded_time(name: str):
    begun = time.process_time()
    assert score(HOSTILE[name]) == 0.0
    assert time.process_time() - begun < 0.5


@given(st.text(alphabet="<answer>/boxed\\{}()+-*/ 0139\x00٣", max_size=300))
def test_no_text_raises_or_escapes_the_two_verdicts(completion: str):
    assert score(completion) in (0.0, 1.0)


@pytest.mark.parametrize(
    "answer", ["", "14", "11 1 3", "11 1 3>", ">14", "11  1>2", "11 1 3>x", "11 1 3>14 ", "١ ٢>٣", "1 2>" + "9" * 10**5]
)
def test_only_an_unreadable_gold_answer_is_not_scored(answer: str):
    assert score("<answer>11*1+3</answer>", answer) is None


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=32), st.integers(0, 10**9 - 1))
def test_gold_answers_survive_the_round_trip_through_text(numbers: list[int], target: int):
    gold = CountdownAnswer(tuple(numbers), target)
    assert CountdownAnswer.parse(str(gold)) == gold


@given(trees)
def test_the_right_value_scores_only_with_the_right_numbers(tree):
    result, used = value(tree), leaves(tree)
    if result is None or result.denominator != 1 or not 0 <= result < 10**9:
        return
    gold = CountdownAnswer(tuple(used), int(result))
    assert answered(text(tree), str(gold)) == 1.0
    assert answered(text(tree), str(CountdownAnswer(gold.numbers, gold.target + 1))) == 0.0
    other = (*gold.numbers[:-1], gold.numbers[-1] + 1)
    assert Counter(other) != Counter(used)
    assert answered(text(tree), str(CountdownAnswer(other, gold.target))) == 0.0


def test_scores_keep_the_order_of_the_completions():
    completions = ["<answer>11*1+3</answer>", "", "<answer>2*2</answer>"]
    assert CountdownVerifier().score(completions, [GOLD, GOLD, "broken"]) == [1.0, 0.0, None]


def test_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="2 completions were given with 1"):
        CountdownVerifier().score(["", ""], [GOLD])
