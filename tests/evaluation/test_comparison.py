"""Paired comparison against scipy, enumeration and simulated error rates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from relax_rl.errors import DataError
from relax_rl.evaluation import EvaluationResult
from relax_rl.evaluation.comparison import compare_results, different_settings, sign_flip_p_value
from relax_rl.evaluation.intervals import bootstrap_difference
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.summary import summarize


def result(scores: np.ndarray, name: str = "m", ids: list[str] | None = None, **settings) -> EvaluationResult:
    """An evaluation with the scores (problems, samples), every answer being its score."""
    ids = ids or [str(index) for index in range(len(scores))]
    rows = [
        [
            Sample(problem, index, "", (), 10, False, score=float(score), how="boxed", answer_class=int(score))
            for index, score in enumerate(row)
        ]
        for problem, row in zip(ids, scores, strict=True)
    ]
    summary = summarize(rows)
    defaults = {"task": "t", "split": "test", "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 9, "seed": 0}
    return EvaluationResult(
        num_problems=len(scores),
        num_samples=scores.shape[1],
        metrics=summary.metrics,
        per_problem=summary.per_problem,
        model=name,
        **defaults | settings,
    )


@pytest.mark.parametrize("size", [2, 4, 9, 13])
def test_p_value_counts_every_sign_pattern(size: int) -> None:
    differences = np.random.default_rng(size).integers(-4, 7, size=size) / 8
    patterns = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=size)]
    expected = np.mean([value >= abs(differences.sum()) - 1e-12 for value in patterns])
    assert sign_flip_p_value(differences) == pytest.approx(expected)
    reference = stats.permutation_test(
        (differences, np.zeros(size)), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p_value(differences) == pytest.approx(reference.pvalue)


def test_with_many_problems_it_agrees_with_scipys_sampled_test() -> None:
    differences = np.random.default_rng(5).normal(0.12, 1.0, size=150)
    reference = stats.permutation_test(
        (differences, np.zeros(150)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
        vectorized=True,
    )
    assert sign_flip_p_value(differences) == pytest.approx(reference.pvalue, abs=0.015)
    assert sign_flip_p_value(np.full(40, 1.0)) == pytest.approx(1 / 20_001)  # never zero


def test_zeros_say_nothing_and_no_difference_is_no_evidence() -> None:
    assert sign_flip_p_value(np.array([0.0, 0.5, 0.0, 0.25])) == sign_flip_p_value(np.array([0.5, 0.25])) == 0.5
    assert sign_flip_p_value(np.zeros(5)) == sign_flip_p_value(np.zeros(0)) == 1.0


def test_it_rejects_as_often_as_it_says_when_nothing_differs() -> None:
    generator = np.random.default_rng(8)
    rejected = 0
    for trial in range(400):
        first, second = generator.binomial(4, 0.4, size=(2, 30)) / 4
        rejected += sign_flip_p_value(second - first, num_patterns=999, seed=trial) <= 0.05
    assert rejected / 400 <= 0.05 + 2.5 * 0.011


def test_every_metric_is_paired_problem_by_problem() -> None:
    generator = np.random.default_rng(2)
    difficulty = generator.uniform(size=(40, 1))
    before, after = (generator.uniform(size=(40, 8)) < difficulty * ease for ease in (0.6, 0.9))
    rows = {row.metric: row for row in compare_results(result(before), result(after))}
    assert {"mean@1", "pass@2", "pass@4", "pass@8", "maj@8", "length", "no_answer"} <= rows.keys()
    means = [scores.mean(axis=1) for scores in (before, after)]
    row = rows["mean@1"]
    assert (row.first, row.second) == (pytest.approx(means[0].mean()), pytest.approx(means[1].mean()))
    assert row.difference == bootstrap_difference(*means)
    assert row.p_value == sign_flip_p_value(means[1] - means[0]) < 0.01
    any_right = [scores.any(axis=1).astype(float) for scores in (before, after)]
    assert rows["pass@8"].difference.value == pytest.approx(any_right[1].mean() - any_right[0].mean())
    assert (rows["length"].difference.value, rows["length"].p_value) == (0.0, 1.0)


def test_problems_are_matched_by_id_and_others_left_out() -> None:
    scores = np.array([[1, 1], [0, 0], [1, 0]])
    first = result(scores, ids=["a", "b", "c"])
    second = result(scores[[2, 0]], ids=["c", "a"])
    (row, *_) = compare_results(first, second)
    assert (row.metric, row.difference.value, row.difference.num_problems) == ("mean@1", 0.0, 2)


def test_what_cannot_be_compared() -> None:
    scores = np.ones((2, 2))
    with pytest.raises(DataError, match="different problems"):
        compare_results(result(scores), result(scores, split="train"))
    with pytest.raises(DataError, match="no problem in common"):
        compare_results(result(scores), result(scores, ids=["x", "y"]))
    assert different_settings(result(scores), result(scores, temperature=0.6, grader="new")) == {
        "temperature": (1.0, 0.6),
        "grader": ("", "new"),
    }
