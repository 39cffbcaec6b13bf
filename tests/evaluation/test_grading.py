"""Verdicts on samples: classes of equal answers, calculations without their words, the version of the grader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relax_rl.evaluation.grading import grade_samples, grader_version, solution_path
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.summary import summarize
from relax_rl.rewards import CallableVerifier, CountdownVerifier, MathVerifier


def samples(*completions: str, problem: str = "p", truncated: bool = False) -> list[Sample]:
    return [Sample(problem, i, text, (), len(text), truncated) for i, text in enumerate(completions)]


def test_votes_are_counted_by_value_not_by_spelling() -> None:
    """Raw strings would elect 7 with two votes; one half has four, in four spellings."""
    spellings = ["\\boxed{0.5}", "\\boxed{\\frac12}", "The answer is 1/2.", "\\boxed{\\dfrac{1}{2}}"]
    rows = [samples("\\boxed{7}", *spellings, "\\boxed{7}", "nothing here")]
    (graded,) = grade_samples(MathVerifier(num_workers=1), rows, ["\\frac{1}{2}"])
    assert [sample.score for sample in graded] == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    classes = [sample.answer_class for sample in graded]
    assert len(set(classes[1:5])) == 1
    assert classes[0] == classes[5] != classes[1]
    assert (classes[6], graded[6].extracted, graded[6].how) == (None, None, "no answer")
    (result,) = summarize([graded]).per_problem
    assert (result.majority, result.distinct_correct) == (1.0, 1)
    assert result.no_answer == pytest.approx(1 / 7)


def test_different_right_answers_are_counted() -> None:
    rows = [
        samples("<answer>1+2+3</answer>", "<answer>3 + 2 + 1</answer>", "<answer>1*2*3</answer>", "<answer>6</answer>")
    ]
    rows[0] += [Sample("p", 4, "so 1 + 2 + 3 <answer>1 + 2+3</answer>", (), 9, False)]
    (graded,) = grade_samples(CountdownVerifier(), rows, ["1 2 3>6"])
    (result,) = summarize([graded]).per_problem
    assert result.num_correct == 4
    assert result.distinct_correct == 2  # 1+2+3, which 3+2+1 is too, and 1*2*3
    assert result.modes == (3, 1)
    assert [sample.mode for sample in graded] == ["1+2+3", "1+2+3", "1*2*3", "6", "1+2+3"]
    assert result.distinct_paths == 4  # the last one calculates before it answers


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("First 2 + 3 = 5, then 5 times two.", "We have 2+3=5.\nSo: 5 doubled"),
        ("$2 \\times 3 = 6$", "2 × 3 = 6"),
        ("10 \\div 2", "10 ÷ 2!"),
    ],
)
def test_words_and_spelling_do_not_make_another_path(first: str, second: str) -> None:
    assert solution_path(first) == solution_path(second) != ""


@pytest.mark.parametrize(
    ("first", "second"), [("2+3=5", "3+2=5"), ("2*3", "2+3"), ("12", "1 2"), ("\\frac{1}{2}", "1 2"), ("1.5", "15")]
)
def test_another_calculation_is_another_path(first: str, second: str) -> None:
    assert solution_path(first) != solution_path(second)


def test_a_completion_without_numbers_has_no_path() -> None:
    assert solution_path("I do not know") == ""


def test_a_cut_statement_is_no_answer_when_the_limit_was_reached() -> None:
    for truncated, expected in ((False, 1.0), (True, 0.0)):
        rows = [samples("So the answer is 12", truncated=truncated)]
        (graded,) = grade_samples(MathVerifier(num_workers=1), rows, ["12"])
        assert graded[0].score == expected


def test_a_verifier_that_gives_scores_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_scores.py").write_text(
        "def length(completions, answers): return [len(c) % 2 for c in completions]"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    verifier = CallableVerifier("plain_scores:length")
    graded = grade_samples(verifier, [samples("a", "bb", "ccc")], ["?"])
    summary = summarize(graded)
    assert [sample.score for sample in graded[0]] == [1.0, 0.0, 1.0]
    if not graded[0][0].how:  # it tells no answers, so nothing is said about them
        assert not {"maj@3", "no_answer", "distinct_correct"} & summary.metrics.keys()
    assert summary.metrics["mean@1"].value == pytest.approx(2 / 3)


def test_pass_at_every_k() -> None:
    rows = [
        [Sample(str(p), i, "", (), 1, False, score=float(i < correct)) for i in range(32)]
        for p, correct in enumerate([1, 0, 32, 7])
    ]
    curve = summarize(rows).pass_at_k
    assert len(curve) == 32
    rng = np.random.default_rng(0)
    for k in (1, 8, 20):
        draws = [
            np.any(rng.permuted(np.tile(np.arange(32) < c, (4000, 1)), axis=1)[:, :k], axis=1) for c in (1, 0, 32, 7)
        ]
        assert curve[k - 1].value == pytest.approx(np.mean(draws), abs=0.01)
    only = summarize(rows[:1])
    assert only.pass_at_k[7].value == only.metrics["pass@8"].value == pytest.approx(0.25)


def test_the_version_names_the_code_that_graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grader_version(MathVerifier()).startswith("math, relax-rl ")
    assert ", math-verify 0." in grader_version(MathVerifier())
    assert grader_version(CountdownVerifier()) == grader_version(CountdownVerifier())
    versions = set()
    for step in (1, 2):
        folder = tmp_path / str(step)
        folder.mkdir()
        code = f"class Own:\n    name = 'own'\n    step = {step}\n    def score(self, completions, answers): ...\n"
        (folder / f"own{step}.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        versions.add(grader_version(__import__(f"own{step}").Own()))
    assert len(versions) == 2
