"""Countdown problems: solvable, reproducible, and never in two splits."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.countdown import CountdownAnswer, CountdownVerifier
from relax_rl.tasks import countdown
from relax_rl.tasks.base import Problem, Task, validate_task
from relax_rl.tasks.countdown import LEVELS, CountdownTask, split_of

TASK = CountdownTask()


def canonical(problem: Problem) -> tuple[tuple[int, ...], int]:
    gold = CountdownAnswer.parse(problem.answer)
    assert gold is not None
    return tuple(sorted(gold.numbers)), gold.target


def test_it_is_a_task_named_countdown():
    assert isinstance(TASK, Task)
    assert TASK.name == "countdown"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "task",
    [TASK, CountdownTask(2, 30, 50), CountdownTask(4, 50, 200), CountdownTask(6, 99, 999)],
    ids=lambda task: str(task.num_numbers),
)
def test_the_task_proves_itself(task: CountdownTask, split: str):
    report = validate_task(task, split, 100, seed=3)
    assert report.ok, str(report)
    assert report.checked == 100
    assert report.without_solution == ()


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_proves_itself(level: int):
    assert validate_task(CountdownTask.of_level(level), "test", 40).ok


def test_a_higher_level_is_harder_to_hit_by_luck():
    """A random expression over the numbers of a problem reaches its target ever more rarely."""
    shares = []
    for level in LEVELS:
        rng, hits = random.Random(level), 0
        for problem in CountdownTask.of_level(level).problems("train", 60):
            gold = CountdownAnswer.parse(problem.answer)
            assert gold is not None
            hits += sum(countdown.random_expression(gold.numbers, rng)[1] == gold.target for _ in range(100))
        shares.append(hits)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 3 * shares[-1]


def test_problems_keep_to_the_parameters():
    task = CountdownTask(4, max_number=12, max_target=30)
    for problem in task.problems("train", 300):
        numbers, target = canonical(problem)
        assert len(numbers) == 4
        assert 1 <= numbers[0] <= numbers[-1] <= 12
        assert 1 <= target <= 30


@pytest.mark.slow
def test_no_problem_is_in_two_splits_for_any_seed_or_setting():
    tasks = [TASK, CountdownTask(max_number=25, max_target=100)]
    found: dict[str, set[tuple[tuple[int, ...], int]]] = {}
    for split, count in (("train", 2500), ("test", 700)):
        lists = [task.problems(split, count, seed) for task in tasks for seed in (0, 1, 42)]
        found[split] = {canonical(problem) for problems in lists for problem in problems}
    assert len(found["train"]) > 6000
    assert len(found["test"]) > 1500
    assert not found["train"] & found["test"]


@given(st.lists(st.integers(1, 99), min_size=2, max_size=6), st.integers(1, 999), st.randoms())
def test_the_order_of_the_numbers_does_not_move_a_problem_to_the_other_split(numbers, target, random):
    shuffled = random.sample(numbers, len(numbers))
    assert split_of(tuple(numbers), target) == split_of(tuple(shuffled), target)


def test_a_fifth_of_all_problems_is_held_out():
    splits = [
        split_of((a, b, c), t) for a in range(1, 11) for b in range(a, 11) for c in range(b, 11) for t in range(50)
    ]
    # 11 000 draws at 0.2: a standard error of 0.0038.
    assert splits.count("test") / len(splits) == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize("split", ["train", "test"])
def test_neighbouring_seeds_give_unrelated_lists(split: str):
    first, second = ({canonical(p) for p in TASK.problems(split, 500, seed)} for seed in (42, 43))
    # Chance alone makes them share some: there are some 2700 test problems, a few far more frequent than others.
    assert len(first & second) < (250 if split == "test" else 100)
    assert [p.answer for p in TASK.problems(split, 50, 42)] != [p.answer for p in TASK.problems(split, 51, 43)[1:]]


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 40))
def test_a_longer_list_begins_with_the_shorter(seed: int, one: int, other: int):
    short, long = sorted((one, other))
    assert TASK.problems("train", long, seed)[:short] == TASK.problems("train", short, seed)


def test_lists_hold_no_problem_twice_and_unique_ids():
    problems = TASK.problems("test", 1000, seed=7)
    assert len({canonical(problem) for problem in problems}) == 1000
    assert len({problem.id for problem in problems}) == 1000


def test_another_process_draws_the_same_problems():
    """Also with another hash seed: nothing may hang on ``hash``. The literal locks the stream across versions."""
    code = (
        "import json; from relax_rl.tasks.countdown import CountdownTask;"
        "print(json.dumps([p.answer for p in CountdownTask().problems('test', 5, 9)]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(output.stdout) == [problem.answer for problem in TASK.problems("test", 5, 9)] == LOCKED


LOCKED = ["8 6 5>19", "3 19 8>30", "15 10 4>29", "2 11 10>23", "1 17 7>10"]


def test_the_words_for_both_kinds_of_model():
    problem = TASK.problems("train", 1)[0]
    gold = CountdownAnswer.parse(problem.answer)
    assert gold is not None
    assert problem.prompt == f"{gold.numbers[0]} {gold.numbers[1]} {gold.numbers[2]}>{gold.target}:"
    assert f"Using the numbers {', '.join(map(str, gold.numbers))}," in problem.question
    assert f"equals {gold.target}." in problem.question
    assert "<answer>" in problem.question
    assert problem.messages == [{"role": "user", "content": problem.question}]
    told = replace(problem, system="Be brief.", instruction=None)
    assert told.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": problem.prompt}]


def test_sizes_without_a_count():
    assert len(TASK.problems("test")) == 256
    assert len(TASK.problems("train")) == 2048
    assert TASK.problems("test", 0) == []


def test_wrong_requests_are_refused_with_the_way_out():
    with pytest.raises(DataError, match="no split 'validation'; choose one of train, test"):
        TASK.problems("validation")
    with pytest.raises(DataError, match="ask for 0 or more"):
        TASK.problems("train", -1)
    with pytest.raises(DataError, match=r"ran out of new train problems after \d+; ask for fewer or raise max_number"):
        CountdownTask(2, max_number=3, max_target=9).problems("train", 1000)


@pytest.mark.parametrize(
    "parameters", [{"num_numbers": 1}, {"num_numbers": 33}, {"max_number": 0}, {"max_target": 0}], ids=str
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        CountdownTask(**parameters)


class LenientVerifier:
    """A grader that gives a point to everybody."""

    name = "lenient"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [1.0] * len(completions)


@dataclass
class BrokenTask:
    """Countdown with a fault put in."""

    found: list[Problem]
    verifier: CountdownVerifier | LenientVerifier
    name: str = "broken"

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        return self.found[:count]


def test_validation_finds_each_injected_fault():
    sound = TASK.problems("train", 4)
    ids = [problem.id for problem in sound]
    wrong_solution = [replace(sound[0], solution="<answer>1+1</answer>"), *sound[1:]]
    assert validate_task(BrokenTask(wrong_solution, CountdownVerifier()), "train").unsolved == (ids[0],)
    unreadable = validate_task(BrokenTask([replace(sound[0], answer="?"), *sound[1:]], CountdownVerifier()), "train")
    assert (unreadable.unsolved, unreadable.too_lenient) == ((ids[0],), (ids[0],))
    assert not unreadable.ok
    lenient = validate_task(BrokenTask(sound, LenientVerifier()), "train")
    assert lenient.too_lenient == tuple(sorted(ids))
    assert not lenient.ok
    repeated = validate_task(BrokenTask([*sound, sound[2]], CountdownVerifier()), "train")
    assert repeated.repeated_ids == (ids[2],)
    unknown = validate_task(BrokenTask([replace(sound[0], solution=None)], CountdownVerifier()), "train")
    assert unknown.ok
    assert unknown.without_solution == (ids[0],)
    misled = [replace(sound[0], mistake=sound[0].solution), *sound[1:]]
    report = validate_task(BrokenTask(misled, CountdownVerifier()), "train")
    assert report.too_lenient == (ids[0],)
    assert report.failures == {ids[0]: "a wrong answer does not score 0"}
    assert "1 have no known solution" in str(unknown)
    with pytest.raises(DataError, match="nothing to validate"):
        validate_task(BrokenTask([], CountdownVerifier()), "train")
