"""Training sets without repeats, contradictions, and what evaluation sets hold."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.tasks import MathTask, Problem, TrainingMix, build_task
from relax_rl.tasks.overlap import question_digest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="there is no ../shared/data")


@pytest.mark.parametrize(
    "other",
    [
        "Find $x$ if $\\dfrac{x}{2} < 3$.",
        "  find $$x$$ if \\(\\frac{x}{2}<3\\)\n",
        "Find $x$ if $\\left.\\frac{x}2\\right. \\, < 3$?",
    ],
)
def test_the_look_of_a_question_does_not_count(other: str) -> None:
    assert question_digest(other) == question_digest("Find $x$ if $\\frac{x}{2} < 3$.")


@pytest.mark.parametrize("other", ["Find $x$ if $\\frac{x}{2} > 3$.", "Find $x$ if $\\frac{x}{-2} < 3$.", "Find $y$."])
def test_what_a_question_says_counts(other: str) -> None:
    assert question_digest(other) != question_digest("Find $x$ if $\\frac{x}{2} < 3$.")


@given(st.text(), st.text(" \n\t{}$.,?!;:", max_size=5))
def test_any_text_has_a_digest_that_ignores_punctuation_around_it(text: str, around: str) -> None:
    assert question_digest(f"a{around}{text}") == question_digest(f"a{text}{around}")


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, rows: list[tuple[str, str]]) -> MathTask:
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in rows))
        return MathTask(path={"train": file, "test": file}, name=name)

    return write


def questions(problems: list[Problem]) -> list[str]:
    return [problem.question for problem in problems]


def test_what_is_dropped_is_counted_and_said_once(write, caplog: pytest.LogCaptureFixture) -> None:
    first = write("first", [("a?", "1"), ("b?", "2"), ("A ?", "1"), ("c?", "3"), ("d?", "4"), ("e?", "\\frac12")])
    second = write("second", [("b", "2.0"), ("c", "5"), ("f", "6"), ("e", "0.5")])
    held = write("held", [("d.", "4"), ("unseen", "0")])
    task = TrainingMix("mine", (first, second), held, (held,))
    with caplog.at_level(logging.WARNING):
        assert questions(task.problems("train")) == ["a?", "b?", "e?", "f"]
        assert len(task.problems("train", 2, seed=3)) == 2
    # a, b and e came twice; c has the answers 3 and 5; one-half in two spellings is no contradiction
    assert (task.report.repeated, task.report.contradictory, task.report.overlap) == (3, 2, {"held": 1})
    assert sum(task.report.rows.values()) == 10 == 4 + 3 + 2 + 1
    (record,) = caplog.records
    assert "4 training problems from 6 rows of first and 4 rows of second" in record.getMessage()
    assert "1 of held" in record.getMessage()
    assert questions(task.problems("test")) == ["d.", "unseen"]
    with pytest.raises(DataError, match="has the splits train and test; there is no 'all'"):
        task.problems("all")
    with pytest.raises(DataError, match="'mine' has 4 problems in 'train'; 5 were asked for"):
        task.problems("train", 5)


def test_a_missing_evaluation_set_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dapo_math_17k.jsonl").write_text(json.dumps({"problem": "1+1", "answer": "2"}))
    with pytest.raises(
        DataError, match=r"math500.jsonl' cannot be read.*needs 'math500': provide it, or name the sets"
    ):
        build_task("dapo_math_17k", data_dir=tmp_path).problems("train")
    assert len(build_task("dapo_math_17k", data_dir=tmp_path, exclude=[]).problems("train")) == 1


@needs_data
@pytest.mark.slow
def test_the_papers_training_mix() -> None:
    """About 22K problems, as the paper says; nothing in it is in an evaluation set."""
    task = build_task("relax_mix", data_dir=DATA)
    assert isinstance(task, TrainingMix)
    problems = task.problems("train")
    assert len(problems) == task.report.kept == 22548
    assert task.report.rows == {"dapo_math_17k": 17917, "math": 8888}
    assert {name: count for name, count in task.report.overlap.items() if count} == {
        "math500": 7,
        "amc22": 6,
        "amc23": 8,
        "olympiadbench": 12,
    }
    digests = {question_digest(problem.question) for problem in problems}
    assert len(digests) == len(problems)
    for name in ("math500", "amc22", "amc23", "olympiadbench"):
        held = build_task(name, data_dir=DATA).problems("test")
        assert digests.isdisjoint(question_digest(problem.question) for problem in held)
    assert len(task.problems("test")) == 500


@needs_data
@pytest.mark.slow
def test_gsm8k_and_aime_share_nothing_with_the_training_sets() -> None:
    train = {question_digest(p.question) for p in build_task("gsm8k", data_dir=DATA).problems("train")}
    held = [build_task(name, data_dir=DATA).problems("test") for name in ("gsm8k", "math500", "minerva", "aime24")]
    assert train.isdisjoint(question_digest(problem.question) for problems in held for problem in problems)
