"""Paired comparison of two evaluations, problem by problem."""

from __future__ import annotations

import numpy as np
import pytest

from relax_rl.comparison.pairs import compare_results, different_settings
from relax_rl.errors import DataError
from relax_rl.evaluation import EvaluationResult
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.summary import summarize
from relax_rl.statistics.intervals import bootstrap_difference
from relax_rl.statistics.sign_flip import sign_flip_test


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
    test = sign_flip_test(means[1] - means[0])
    assert test is not None
    assert row.p_value == test.p_value < 0.01
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
