"""Problems with many solutions: all of them are known, and each is what the verifier accepts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import CountdownVerifier, build_verifier, grade
from relax_rl.rewards.solutions import Expression, canonical, value_of
from relax_rl.tasks.base import validate_task
from relax_rl.tasks.countdown import split_of
from relax_rl.tasks.many_solutions import ManySolutionsTask
from relax_rl.tasks.registry import build_task
from relax_rl.tasks.solutions import countdown_solutions, subset_sums


def trees(numbers: tuple[int, ...]) -> Iterator[Expression]:
    """Every expression that uses each number once, by places and not by values."""
    if len(numbers) == 1:
        yield numbers[0]
    for size in range(1, len(numbers)):
        for left in combinations(range(len(numbers)), size):
            right = tuple(numbers[place] for place in range(len(numbers)) if place not in left)
            for first in trees(tuple(numbers[place] for place in left)):
                for second in trees(right):
                    yield from ((sign, first, second) for sign in "+-*/")


@pytest.mark.parametrize("numbers", [(3, 8), (2, 2, 5), (6, 1, 4), (1, 1, 1), (3, 3, 8, 8), (5, 5, 5, 1), (2, 3, 4, 6)])
def test_the_enumeration_finds_what_brute_force_finds(numbers: tuple[int, ...]) -> None:
    expected: dict[int, set[str]] = {}
    for tree in trees(numbers):
        try:
            value = value_of(tree)
        except ZeroDivisionError:
            continue
        if value.denominator == 1 and 1 <= value <= 30:
            expected.setdefault(int(value), set()).add(canonical(tree))
    assert countdown_solutions(numbers, 30) == {target: sorted(found) for target, found in sorted(expected.items())}


def test_the_famous_one_has_its_one_solution() -> None:
    assert countdown_solutions((3, 3, 8, 8), 24)[24] == [canonical(("/", 8, ("-", 3, ("/", 8, 3))))]


def test_subset_sums_by_hand() -> None:
    assert subset_sums((2, 3, 3, 5))[8] == ["2+3+3", "3+5"]
    assert subset_sums((2, 3, 3, 5))[13] == ["2+3+3+5"]
    assert subset_sums((4,)) == {4: ["4"]}


@pytest.mark.parametrize("kind", ["countdown", "subset_sum"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_solution_of_a_problem_is_right_and_there_are_as_many_as_it_says(kind: str, split: str) -> None:
    task = build_task("many_solutions", kind=kind)
    problems = task.problems(split, 6)
    assert validate_task(task, split, 6).ok
    for problem in problems:
        numbers, target = problem.answer.split(">")
        given = tuple(map(int, numbers.split()))
        found = (countdown_solutions(given, 60) if kind == "countdown" else subset_sums(given))[int(target)]
        assert problem.columns["num_solutions"] == len(found) >= 6
        written = [text for text in found if text[0] != "-"]
        verdicts = grade(
            task.verifier, [f"<answer>{text}</answer>" for text in written], [problem.answer] * len(written)
        )
        assert [(verdict.score, verdict.mode) for verdict in verdicts] == [(1.0, text) for text in written]
        if kind == "countdown":
            assert split_of(given, int(target)) == split
    again = build_task("many_solutions", kind=kind).problems(split, 3)
    assert again == problems[:3]
    assert len({problem.answer for problem in problems}) == 6


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("3 + 5", 1.0),
        ("5+3", 1.0),
        ("(2+3)+3", 1.0),
        ("8", 0.0),  # not given
        ("3+3+2+0", 0.0),
        ("5+3+2-2", 0.0),
        ("5+3*1", 0.0),
        ("2+2+2+2", 0.0),  # 2 is given once
        ("3+3+3-1", 0.0),
        ("5", 0.0),
        ("3+5=8", 0.0),
        ("-(2-10)", 0.0),
        ("", 0.0),
    ],
)
def test_a_subset_sum_is_a_sum_of_numbers_that_are_given(answer: str, score: float) -> None:
    verifier: Any = build_verifier("subset_sum")
    assert verifier.score([f"<answer>{answer}</answer>"], ["2 3 3 5>8"]) == [score]
    (verdict,) = verifier.grade([f"<answer>{answer}</answer>"], ["no gold"])
    assert (verdict.score, verdict.reason) == (None, "gold unreadable")


def test_no_wrong_sum_is_accepted() -> None:
    """Random sums over the given numbers and others against a count by hand."""
    rng, verifier = random.Random(0), build_verifier("subset_sum")
    accepted = 0
    for _ in range(2000):
        given = [rng.randint(1, 6) for _ in range(4)]
        used = [rng.randint(1, 6) for _ in range(rng.randint(1, 4))]
        target = rng.choice([sum(used), rng.randint(1, 20)])
        left = list(given)
        is_right = sum(used) == target
        for number in used:
            if number in left:
                left.remove(number)
            else:
                is_right = False
        gold = f"{' '.join(map(str, given))}>{target}"
        assert verifier.score([f"<answer>{'+'.join(map(str, used))}</answer>"], [gold]) == [float(is_right)]
        accepted += is_right
    assert accepted > 50


def test_a_single_given_number_may_be_the_sum() -> None:
    assert build_verifier("subset_sum").score(["<answer>5</answer>"], ["2 3 5>5"]) == [1.0]
    assert CountdownVerifier().score(["<answer>5</answer>"], ["2 3 5>5"]) == [0.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sums"}, "has no kind 'sums'"),
        ({"num_numbers": 6}, "num_numbers of many_solutions is 6; choose a whole number from 2 to 5"),
        ({"kind": "subset_sum", "num_numbers": 13}, "from 2 to 12"),
        ({"min_solutions": 0}, "min_solutions of many_solutions is 0"),
        ({"max_target": 0}, "max_target"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ManySolutionsTask(**options)


def test_a_task_that_runs_out_says_so() -> None:
    with pytest.raises(DataError, match="found no new train problem of 2 numbers up to 2 with 6 solutions after 0"):
        ManySolutionsTask(num_numbers=2, max_number=2).problems("train", 1)
    with pytest.raises(DataError, match="no split 'dev'"):
        ManySolutionsTask().problems("dev")
    with pytest.raises(DataError, match="asked for -1"):
        ManySolutionsTask().problems("train", -1)
