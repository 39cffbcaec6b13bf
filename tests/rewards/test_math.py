"""The mathematical verifier: what it promises, text that means harm, and the verifiers made of callables."""

from __future__ import annotations

import json
import random
import time
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import (
    CallableVerifier,
    ExplainingVerifier,
    MathVerifier,
    Verdict,
    Verifier,
    WeightedVerifiers,
    grade,
)
from relax_rl.rewards.extraction import extract_answer
from relax_rl.rewards.mathematics.literals import same_literal

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(timeout_s=0.6, num_workers=2)
    yield verifier
    verifier.close()


def rows_of(name: str, count: int | None = None) -> list[dict]:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ../shared/data")
    return [json.loads(line) for line in path.open(encoding="utf-8")][:count]


def boxed(text: str) -> str:
    return f"So it is \\boxed{{{text}}}."


def test_decimal_commas_are_read_by_option() -> None:
    rows = [("1000.99", "1000,99", 1.0), ("3,5", "\\frac72", 1.0), ("1234.5", "1.234,5", 1.0), ("3,5", "35", 0.0)]
    rows += [("1,5; 2", "2; 1,5", 1.0), ("1, 2", "2, 1", 1.0), ("1, 2", "1,2", 0.0)]
    golds, completions = [gold for gold, _, _ in rows], [boxed(text) for _, text, _ in rows]
    assert MathVerifier(decimal_comma=True).score(completions, golds) == [score for *_, score in rows]
    assert MathVerifier().score(completions[:1], golds[:1]) == [0.0]


def test_a_bare_number_counts_only_if_asked_for() -> None:
    completion = "so 48 and 24 make 72 clips"
    assert MathVerifier().score([completion], ["72"]) == [0.0]
    (grade,) = MathVerifier(allow_bare_number=True).grade([completion], ["72"])
    assert (grade.score, grade.extracted, grade.how) == (1.0, "72", "bare number")


def test_joined_boxes_are_a_list_beside_a_gold_list_and_else_the_last_wins(verifier: MathVerifier) -> None:
    joined = "$x = \\boxed{3}$ or $x = \\boxed{2}$"
    grades = verifier.grade([joined] * 5, ["2, 3", "\\{2,3\\}", "2", "3", "2,3,4"])
    assert [grade.score for grade in grades] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert [grade.extracted for grade in grades] == ["3, 2", "3, 2", "2", "2", "3, 2"]


def test_a_truncated_completion_has_no_stated_answer_at_its_end(verifier: MathVerifier) -> None:
    completions = ["The answer is 12", "The answer is 12", "\\boxed{12}", "\\boxed{12"]
    grades = verifier.grade(completions, ["12"] * 4, truncated=[False, True, True, False])
    assert [(grade.score, grade.how) for grade in grades] == [
        (1.0, "stated"), (0.0, "truncated"), (1.0, "boxed"), (0.0, "unclosed box")
    ]  # fmt: skip
    with pytest.raises(DataError, match="4 completions were given with 1 flags"):
        verifier.grade(completions, ["12"] * 4, truncated=[False])


def test_equal_answers_are_one_class_in_any_order(verifier: MathVerifier) -> None:
    answers = ["\\frac12", "2", None, "0.5", "\\sqrt{8}", "2\\sqrt2", "1/2", "2.0", "x)(", "9" * 3000, "9" * 3000]
    assert verifier.classes(answers) == [0, 1, None, 0, 2, 2, 0, 1, 3, 4, 4]
    assert verifier.classes(answers[::-1]) == [0, 0, 1, 2, 3, 4, 4, 3, None, 2, 3]
    assert verifier.classes([]) == []
    assert verifier.extract("so \\boxed{2}, \\boxed{3}") == "2, 3"
    assert verifier.extract("so 5") is None


def test_gsm8k_solutions_score_one_and_shifted_ones_zero() -> None:
    rows = rows_of("gsm8k_train", 600)
    golds = [row["answer"] for row in rows]
    solutions = [row["solution"] for row in rows]
    verifier = MathVerifier()
    assert verifier.score(solutions, golds) == [1.0] * 600
    shifted = verifier.score([solutions[-1], *solutions[:-1]], golds)
    assert shifted == [float(gold == golds[index - 1]) for index, gold in enumerate(golds)]
    assert verifier._pool.worker_pids() == []  # ordinary answers start no process


HOSTILE = {
    "tower": "9^{9^{9^9}}",
    "tower of factorials": "((((9!)!)!)!)!",
    "large power": "(10^{100000})^{100000}",
    "sum": "\\sum_{n=1}^{10^{12}} \\frac{1}{n^2+\\sin(n)}",
    "integral": "\\int_0^1 x^{x^{x^{x}}} \\sin(\\tan(e^{x^2})) dx",
    "nested powers": "2^{" * 300 + "2" + "}" * 300,
    "nested fractions": "\\frac{1}{" * 150 + "2" + "}" * 150,
    "brackets": "(" * 900 + "1" + ")" * 900,
    "import": "__import__('os').system('true')",
    "null bytes": "\x00\x00 4 \x00",
    "unicode digits": "\u0664\u0662",
    "lone surrogate": "\ud800 5",
    "long number": "7" * 1900,
    "long fraction": "1/" + "3" * 1900,
    "huge exponent": "1e999999999",
    "huge power of ten": "2 \\times 10^{999999999}",
    "format": "{0.__class__}%s%n",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_bounded_and_never_right(verifier: MathVerifier, answer: str) -> None:
    started = time.process_time()
    (grade,) = verifier.grade([boxed(answer)], ["3\\sqrt{2}"])
    assert grade.score == 0.0  # the answer is at fault, and being hostile must not be better than being wrong
    assert time.process_time() - started < 2.0  # of this process: the workers have their own limit
    assert verifier.score([boxed("\\sqrt{18}")], ["3\\sqrt{2}"]) == [1.0]


HOSTILE_COMPLETIONS = {
    "nested braces": "\\boxed" + "{" * 10**6 + "5" + "}" * 10**6,
    "open braces": "\\boxed{" * 10**6,
    "megabyte of digits": "\\boxed{" + "9" * 10**6 + "}",
    "megabyte of prose": "the answer is " * 70_000,
    "megabyte of null bytes": "\x00" * 10**6,
    "boxes in boxes": "\\boxed{" * 10**4 + "5" + "}" * 10**4,
    "a macro of itself": "\\def\\x{\\x}\\boxed{\\x}",
    "tags in tags": "<think>" * 10**5 + "<answer>" * 10**5,
}


@pytest.mark.parametrize("completion", HOSTILE_COMPLETIONS.values(), ids=HOSTILE_COMPLETIONS)
def test_hostile_completions_are_bounded(verifier: MathVerifier, completion: str) -> None:
    started = time.process_time()
    (grade,) = verifier.grade([completion], ["3\\sqrt{2}"])
    assert grade.score == 0.0
    assert time.process_time() - started < 8.0  # of this process, which reads the text in linear time
    assert verifier.score([boxed("\\sqrt{18}")], ["3\\sqrt{2}"]) == [1.0]


SLOW = "\\int_0^1 x^{x^{x^{x}}} \\sin(\\tan(e^{x^2})) dx"


def test_the_golds_fault_is_no_score_and_the_answers_fault_is_zero(verifier: MathVerifier) -> None:
    pairs = {
        ("5", "t(0,4]"): (None, "gold unreadable"),
        ("5", "  "): (None, "gold unreadable"),
        ("5", "1" * 3000): (None, "gold unreadable"),
        ("5", SLOW): (None, "gold unreadable"),  # nothing can be compared with it
        ("9^{9^{9^9}}", "2"): (0.0, "too large"),
        ("\\sqrt{9^{9^{9}}}", "2"): (0.0, "too large"),
        (SLOW, "\\sqrt{2}"): (0.0, "timeout"),
        ("1" * 3000, "3"): (0.0, "too long"),
        ("12!!", "46080"): (1.0, None),
        ("12!!", "3\\sqrt{2}"): (0.0, None),
        ("5", "4"): (0.0, None),
    }
    grades = verifier.grade([boxed(answer) for answer, _ in pairs], [gold for _, gold in pairs])
    assert {pair: (grade.score, grade.reason) for pair, grade in zip(pairs, grades, strict=True)} == pairs
    assert [(grade.extracted, grade.how) for grade in grades] == [(answer, "boxed") for answer, _ in pairs]
    assert [grade.is_ungradable for grade in grades] == [score == 0.0 and bool(why) for score, why in pairs.values()]


@pytest.mark.slow
def test_the_budget_of_a_batch_bounds_slow_comparisons_and_not_quick_ones() -> None:
    verifier = MathVerifier(timeout_s=0.6, num_workers=2, budget_s=0.6)
    slow = [boxed(f"{number} + {SLOW}") for number in (3, 1, 2)]
    grades = verifier.grade([*slow, boxed("\\sqrt{8}"), boxed("\\sqrt{3}")], ["2\\sqrt{2}"] * 5)
    assert [(grade.score, grade.reason) for grade in grades] == [
        (0.0, "budget"), (0.0, "timeout"), (0.0, "budget"), (1.0, None), (0.0, None)
    ]  # fmt: skip
    verifier.close()
    with pytest.raises(ConfigError, match="budget_s"):
        MathVerifier(budget_s=-1.0)


@pytest.mark.slow
def test_verdicts_depend_neither_on_pool_size_nor_on_order() -> None:
    table = tomllib.loads(Path(__file__).with_name("cases.toml").read_text(encoding="utf-8"))
    pairs = [(gold, completion) for rows in table.values() for gold, completion, _ in rows[::5]]
    pairs += [("2", boxed(HOSTILE["tower"])), ("2", boxed(HOSTILE["import"]))]
    verdicts = []
    for num_workers, seed in ((1, 0), (3, 1)):
        shuffled = random.Random(seed).sample(pairs, len(pairs))  # each run in another order
        verifier = MathVerifier(timeout_s=1.0, num_workers=num_workers)
        grades = verifier.grade([completion for _, completion in shuffled], [gold for gold, _ in shuffled])
        verdicts.append({pair: (grade.score, grade.reason) for pair, grade in zip(shuffled, grades, strict=True)})
        verifier.close()
    assert verdicts[0] == verdicts[1]


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
@settings(max_examples=300, deadline=None)
def test_rational_answers_are_compared_exactly(one: Fraction, other: Fraction) -> None:
    written = [
        f"{one}", f"{'-' if one < 0 else ''}\\frac{{{abs(one.numerator)}}}{{{one.denominator}}}", f"${one}$"
    ]  # fmt: skip
    assert all(same_literal(text, str(one)) for text in written)
    assert all(same_literal(text, str(other)) == (one == other) for text in written)


@pytest.mark.parametrize(
    ("gold", "answer", "is_same"),
    [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50%", "\\frac{1}{2}", True),
        ("0.5", "50%", True),
        ("50", "50%", True),
        ("50", "5000%", True),
        ("50%", "5000", False),
        ("5000", "50%", False),
        ("50%", "0.005", False),
        ("0.5%", "50", False),
        ("50", "0.5%", False),
        ("50%", "5000%", False),
        ("50%", "0.5%", False),
        ("50", "5000", False),
    ],
)
def test_a_percent_sign_is_a_hundredth_or_is_left_out(
    verifier: MathVerifier, gold: str, answer: str, is_same: bool
) -> None:
    assert verifier.score([boxed(answer)], [gold]) == [float(is_same)]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6))
@settings(max_examples=200, deadline=None)
def test_decimals_equal_their_fractions(value) -> None:
    exact = Fraction(value)
    assert same_literal(f"{value:,}", str(exact)) is True
    assert same_literal(str(value), str(exact + Fraction(1, 10**9))) is False


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_verdict_in_place_or_asks_for_algebra(text: str) -> None:
    assert same_literal(text, text) is True
    assert same_literal("3", text) in (True, False, None)
    found = extract_answer(boxed(text), policy="lenient")
    assert found.text is None or isinstance(found.text, str)


def test_the_promise_of_a_verifier() -> None:
    verifier = MathVerifier()
    assert isinstance(verifier, Verifier)
    assert verifier.score([], []) == []
    with pytest.raises(DataError, match="2 completions were given with 1"):
        verifier.score(["a", "b"], ["1"])
    with pytest.raises(ConfigError, match="num_workers"):
        MathVerifier(num_workers=0)


# Callables and weighted sets.


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "def length(completions, answers): return [len(c) for c in completions]\n"
        "def unsure(completions, answers): return [None if 'x' in c else 1 for c in completions]\n"
        "def short(completions, answers): return [1.0]\n"
        "def words(completions, answers): return ['yes'] * len(completions)\n"
        "def single(completions, answers): return 1.0\n"
        "constant = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_module")
def test_a_callable_by_import_path() -> None:
    verifier = CallableVerifier("own_rewards:length")
    assert isinstance(verifier, Verifier)
    assert verifier.name == "length"
    assert verifier.score(["ab", "abc"], ["", ""]) == [2.0, 3.0]


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("path", ["own_rewards", "own_rewards:missing", "own_rewards:constant", "nowhere:length", ":x"])
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=f"'{path}' cannot be loaded"):
        CallableVerifier(path)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(("function", "words"), [("short", "1 values"), ("words", "'yes'"), ("single", "a float")])
def test_a_callable_that_returns_something_else_is_named(function: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        CallableVerifier(f"own_rewards:{function}").score(["a", "b"], ["", ""])


@pytest.mark.usefixtures("own_module")
def test_any_verifier_has_verdicts() -> None:
    assert grade(CallableVerifier("own_rewards:unsure"), ["a", "x"], ["", ""]) == [Verdict(1.0), Verdict(None)]
    assert isinstance(MathVerifier(), ExplainingVerifier)
    assert grade(MathVerifier(), ["\\boxed{4}"], ["4"]) == [Verdict(1.0, "4", "boxed", type="number", mode="right")]


@pytest.mark.usefixtures("own_module")
def test_weights_add_up_and_no_verdict_spreads() -> None:
    members = [(CallableVerifier("own_rewards:length"), 0.5), (CallableVerifier("own_rewards:unsure"), 2)]
    weighted = WeightedVerifiers(members)
    assert weighted.score(["ab", "x"], ["", ""]) == [0.5 * 2 + 2 * 1, None]
    assert weighted.parts(["ab", "x"], ["", ""]) == {"length": [2.0, 1.0], "unsure": [1.0, None]}
    assert weighted.grade(["ab", "x"], ["", ""]) == [
        Verdict(3.0, parts=(("length", 2.0), ("unsure", 1.0))),
        Verdict(None, reason="unsure: no reason given", parts=(("length", 1.0), ("unsure", None))),
    ]
    with pytest.raises(ConfigError, match="at least one"):
        WeightedVerifiers([])
    with pytest.raises(ConfigError, match="name 'length'"):
        WeightedVerifiers([members[0], members[0]])
    with pytest.raises(ConfigError, match="nan"):
        WeightedVerifiers([(members[0][0], float("nan"))])
