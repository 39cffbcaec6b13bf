"""Which expressions are the same solution: against the known numbers of inequivalent expressions, and by rewriting."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import pytest

from relax_rl.rewards import CallableVerifier, CountdownVerifier, WeightedVerifiers, grade
from relax_rl.rewards.countdown import evaluate, parsed_expression
from relax_rl.rewards.solutions import Expression, canonical, value_of

OPERANDS = (101, 307, 1009, 5003)
"""Large primes: values of two expressions agree only where the expressions are the same function."""


def trees(numbers: tuple[int, ...]) -> Iterator[Expression]:
    """Every expression that uses each number once."""
    if len(numbers) == 1:
        yield numbers[0]
        return
    for size in range(1, len(numbers)):
        for left in combinations(numbers, size):
            right = tuple(number for number in numbers if number not in left)
            for first in trees(left):
                for second in trees(right):
                    yield from ((sign, first, second) for sign in "+-*/")


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 6), (3, 68), (4, 1170)])
def test_as_many_solutions_as_there_are_inequivalent_expressions(count: int, expected: int) -> None:
    """OEIS A140606; where each number is used once, two expressions are one function exactly if one rewrites the
    other."""
    by_value, by_text = defaultdict(set), defaultdict(set)
    for tree in trees(OPERANDS[:count]):
        by_value[value_of(tree)].add(canonical(tree))
        by_text[canonical(tree)].add(value_of(tree))
    assert len(by_value) == len(by_text) == expected
    assert all(len(texts) == 1 for texts in by_value.values())


def mode(expression: str) -> str:
    tree = parsed_expression(expression)
    assert tree is not None
    return canonical(tree)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("3+8", "8 + 3"),
        ("9-(4-2)", "9+2-4"),
        ("2-4+9", "9-(4-2)"),
        ("2*(3*4)", "4*2*3"),
        ("8/(4/2)", "8*2/4"),
        ("8/2/4", "8/(2*4)"),
        ("(3-8)*(2-7)", "(8-3)*(7-2)"),
        ("10-5*(3-8)", "10+(8-3)*5"),
        ("(3-8)/(2-7)", "(8-3)/(7-2)"),
        ("7-(3-3)*5", "7+5*(3-3)"),
        ("((3))+8", "8+3"),
        ("3 \\times 8", "8*3"),
    ],
)
def test_order_and_grouping_do_not_matter(first: str, second: str) -> None:
    assert mode(first) == mode(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2+2", "2*2"),
        ("7*1", "7/1"),
        ("3-8", "8-3"),
        ("3/8", "8/3"),
        ("(3-8)*5", "(8-3)*5"),
        ("2*(3+4)", "2*3+4"),
        ("6-4+1", "6-(4+1)"),
        ("11+1", "1+1+1"),
        ("(1+2)*(3+4)", "(1+3)*(2+4)"),
    ],
)
def test_structure_matters_and_the_value_does_not(first: str, second: str) -> None:
    assert mode(first) != mode(second)


def rewritten(tree: Expression, rng: random.Random) -> Expression:
    """The same solution, turned around by one random step at every node."""
    if isinstance(tree, int):
        return tree
    sign, left, right = tree[0], rewritten(tree[1], rng), rewritten(tree[2], rng)
    if sign in "+*" and rng.random() < 0.5:
        left, right = right, left
    inverse = {"+": "-", "-": "+", "*": "/", "/": "*"}[sign]
    if not isinstance(right, int) and right[0] in (sign, inverse) and rng.random() < 0.7:
        # a + (b - c) = (a + b) - c, and a - (b - c) = (a - b) + c; so for products.
        outer = right[0] if sign in "+*" else {sign: inverse, inverse: sign}[right[0]]
        return (outer, (sign, left, right[1]), right[2])
    return (sign, left, right)


def test_rewriting_keeps_the_mode_and_the_mode_keeps_the_value() -> None:
    rng = random.Random(0)
    for _ in range(400):
        tree: Expression = rng.randint(1, 9)
        for _ in range(rng.randint(1, 6)):
            other: Expression = rng.choice([rng.randint(1, 9), ("+", rng.randint(1, 9), rng.randint(1, 9))])
            first, second = rng.sample([tree, other], 2)
            tree = (rng.choice("+-*/"), first, second)
        try:
            value = value_of(tree)
        except ZeroDivisionError:
            continue
        text = canonical(tree)
        read = evaluate(f"0+{text}" if text[0] != "-" else f"0{text}")
        assert read is not None
        assert read[0] == value
        for _ in range(5):
            tree = rewritten(tree, rng)
            assert canonical(tree) == text


def test_a_verdict_has_the_mode_of_what_was_found_right_or_wrong() -> None:
    completions = [
        "<answer>11+1*3</answer>",
        "\\boxed{3 * 1 + 11}",
        "<answer>11+3/0</answer>",
        "<answer>11</answer>",
        "?",
    ]
    verdicts = CountdownVerifier().grade(completions, ["11 1 3>14"] * 5)
    assert [verdict.score for verdict in verdicts] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert [verdict.mode for verdict in verdicts] == ["11+1*3", "11+1*3", None, "11", None]


def test_a_weighted_set_has_the_mode_of_the_member_that_tells_one() -> None:
    length = CallableVerifier(lambda completions, answers: [len(one) / 100 for one in completions], name="length")
    both = WeightedVerifiers([(length, 0.1), (CountdownVerifier(), 1.0)])
    assert both.has_modes
    assert not WeightedVerifiers([(length, 1.0)]).has_modes
    assert grade(both, ["<answer>3+1+11-1</answer>"], ["1 3 11>14"])[0].mode == "1+3+11-1"


def test_the_longest_and_deepest_expressions_have_a_mode() -> None:
    deep = "(" * 32 + "1" + ")" * 32
    assert mode(deep) == "1"
    nested = "1"
    for _ in range(30):
        nested = f"(2-{nested})"
    assert mode(nested) == mode(nested)
    assert mode("+".join("1" * 128)) == "+".join("1" * 128)
