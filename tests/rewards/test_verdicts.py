"""What the mathematical verifier makes of the outcomes of its grading processes, which are told here by a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from relax_rl.errors import DataError
from relax_rl.rewards import MathVerifier
from relax_rl.rewards.mathematics.answers import ChoiceVerifier, ExactVerifier, NumericVerifier
from relax_rl.rewards.workers.pool import Outcome, WorkerPool

Script = Callable[[tuple[str, str | None], float | None], Outcome]


def scripted(monkeypatch: pytest.MonkeyPatch, script: Script) -> list[list[Any]]:
    """Every batch of pairs that the pool is asked to compare, answered by the script; a class is the answer itself."""
    asked: list[list[Any]] = []

    def answer(self: WorkerPool, items: Sequence[Any], *, timeout_s: float | None = None) -> list[Outcome]:
        if any(question == "class" for question, *_ in items):
            return [Outcome({"class": text}) for _, text in items]
        pairs = [tuple(pair) for _, *pair in items]
        asked.append(pairs)
        return [script(pair, timeout_s) for pair in pairs]

    monkeypatch.setattr(WorkerPool, "map", answer)
    return asked


def boxed(*answers: str) -> list[str]:
    return [f"So \\boxed{{{answer}}}." for answer in answers]


ROOTS = ["\\sqrt{2}", "\\sqrt{3}", "\\sqrt{5}", "\\sqrt{7}", "\\sqrt{11}", "\\sqrt{13}"]
YES, NO, UNREADABLE = (Outcome({"verdict": verdict}) for verdict in (True, False, None))


def test_every_pair_is_quick_first_and_the_budget_says_how_many_may_take_their_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[float | None] = []

    def script(pair: tuple[str, str | None], limit: float | None) -> Outcome:
        limits.append(limit)
        return YES if limit is None else Outcome(reason="timeout")

    asked = scripted(monkeypatch, script)
    verifier = MathVerifier(timeout_s=0.25, budget_s=1.0)
    grades = verifier.grade(boxed(*reversed(ROOTS)), ["2\\sqrt{x}"] * 6)
    # A fifth of 0.25 s each, then 1.0 / 0.25 of them for 0.25 s, the shortest first.
    assert limits[:6] == pytest.approx([0.05] * 6)
    assert [answer for _, answer in asked[1]] == ROOTS[:4]
    assert [(grade.score, grade.reason) for grade in grades] == [(0.0, "budget")] * 2 + [(1.0, None)] * 4
    assert grades[0].detail == "6 slow comparisons in 1 s"
    # By default 60 s: of the default limit of 5 s there are twelve.
    many = [f"\\sqrt{{{number}}}" for number in (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21, 22)]
    grades = MathVerifier().grade(boxed(*many), ["2\\sqrt{x}"] * 14)
    assert [grade.reason for grade in grades].count("budget") == 2


def test_what_a_process_could_not_do_is_nobodys_fault_and_keeps_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda pair, limit: Outcome(reason="killed", detail="signal 9"))
    (grade,) = MathVerifier().grade(boxed("\\sqrt{2}"), ["2\\sqrt{x}"])
    assert (grade.score, grade.reason, grade.detail) == (None, "killed", "signal 9")
    assert (grade.extracted, grade.how) == ("\\sqrt{2}", "boxed")


def test_an_answer_is_at_fault_only_beside_a_gold_answer_that_can_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(pair: tuple[str, str | None], limit: float | None) -> Outcome:
        if pair[1] is None:  # is the gold answer at fault?
            return Outcome(reason="crashed") if "z" in pair[0] else YES
        return Outcome(reason="crashed", detail="a fault")

    asked = scripted(monkeypatch, script)
    verifier = MathVerifier()
    for _ in range(2):
        good, bad = verifier.grade(boxed("\\sqrt{2}", "\\sqrt{2}"), ["2\\sqrt{x}", "2\\sqrt{z}"])
        assert (good.score, good.reason, good.detail, good.extracted) == (0.0, "crashed", "a fault", "\\sqrt{2}")
        assert (bad.score, bad.reason, bad.extracted, bad.how) == (None, "gold unreadable", "\\sqrt{2}", "boxed")
        assert bad.detail == "no answer can be compared with it (crashed)"
    # What is known of a gold answer is asked once.
    assert [batch for batch in asked if batch and batch[0][1] is None] == [[("2\\sqrt{x}", None), ("2\\sqrt{z}", None)]]


def test_a_gold_answer_that_a_process_cannot_read_is_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda pair, limit: UNREADABLE)
    (grade,) = MathVerifier().grade(boxed("\\sqrt{2}"), ["2\\sqrt{x}"])
    assert (grade.score, grade.reason, grade.extracted, grade.how) == (None, "gold unreadable", "\\sqrt{2}", "boxed")
    (grade,) = MathVerifier().grade(boxed("\\sqrt{2}"), [" "])
    assert (grade.score, grade.reason, grade.extracted, grade.how) == (None, "gold unreadable", "\\sqrt{2}", "boxed")
    assert grade.detail == "the gold answer is empty"
    (grade,) = MathVerifier().grade(boxed("\\sqrt{2}"), ["1" * 2001])
    assert (grade.score, grade.extracted, grade.how, grade.type) == (None, "\\sqrt{2}", "boxed", "")
    assert grade.detail == "the gold answer has 2001 characters, at most 2000 are read"
    (grade,) = MathVerifier().grade(boxed("1" * 2001), ["\\sqrt{2}"])
    assert (grade.score, grade.reason, grade.detail) == (0.0, "too long", "2001 characters, at most 2000")
    assert (len(grade.extracted or ""), grade.how) == (2001, "boxed")


def test_each_pair_is_compared_once_and_in_place_where_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scripted(monkeypatch, lambda pair, limit: YES if pair[0] == pair[1] + "+0" else NO)  # type: ignore[operator]
    completions = boxed("\\sqrt{2}", "\\sqrt{2}", "\\sqrt{3}", "7", "8")
    golds = ["\\sqrt{2}+0", "\\sqrt{2}+0", "\\sqrt{2}+0", "7.0", "7"]
    assert MathVerifier().score(completions, golds) == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert asked[0] == [("\\sqrt{2}+0", "\\sqrt{2}"), ("\\sqrt{2}+0", "\\sqrt{3}")]


def test_answers_of_one_class_and_those_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scripted(monkeypatch, lambda pair, limit: YES if set(pair) == {"\\sqrt{8}", "2\\sqrt{2}"} else NO)
    tower, long = "\\sqrt{9^{9^{9}}}", "x" * 2001
    answers = ["2\\sqrt{2}", None, "\\sqrt{8}", "0.5", "\\frac12", tower, long, tower, long, "\\sqrt{3}"]
    assert MathVerifier().classes(answers) == [0, None, 0, 1, 1, 2, 3, 2, 3, 4]
    assert all(tower not in pair and long not in pair for batch in asked for pair in batch)


def test_there_is_one_gold_answer_and_one_flag_for_each_completion() -> None:
    for verifier in (ChoiceVerifier(), ExactVerifier(), NumericVerifier(), MathVerifier()):
        with pytest.raises(DataError, match="2 completions were given with 1 gold answers; give one each"):
            verifier.grade(["A", "B"], ["A"])
    with pytest.raises(DataError, match="1 completions were given with 2 flags in truncated"):
        MathVerifier().grade(["1"], ["1"], truncated=[False, True])
    for verifier in (ChoiceVerifier(), MathVerifier()):
        with pytest.raises(DataError, match="1 completions were given with 0 lists of options"):
            verifier.grade(["1"], ["1"], options=[])
