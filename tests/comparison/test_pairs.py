"""Paired comparison of two evaluations, problem by problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from relax_rl.comparison.pairs import MAY_DIFFER, comparability, compare_results, paired_difference
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation import EvaluationResult
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import SampleRecord
from relax_rl.evaluation.summary import summarize
from relax_rl.statistics.intervals import bootstrap_difference
from relax_rl.statistics.sign_flip import sign_flip_test


def result(
    scores: np.ndarray, name: str = "m", ids: list[str] | None = None, units: list[str] | None = None, **settings
) -> EvaluationResult:
    """An evaluation with the scores (problems, samples), every answer being its score."""
    ids = ids or [str(index) for index in range(len(scores))]
    rows = [
        [
            Sample(problem, index, "", (), 10, False, score=float(score), how="boxed", answer_class=int(score))
            for index, score in enumerate(row)
        ]
        for problem, row in zip(ids, scores, strict=True)
    ]
    summary = summarize(rows, units=units)
    defaults = {"task": "t", "split": "test", "temperature": 1.0, "top_p": 1.0, "max_completion_length": 9, "seed": 0}
    defaults |= {"prompt_digest": "d", "grader": "g 1", "backend": "transformers"}
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


def test_variants_of_a_question_are_one_unit() -> None:
    generator = np.random.default_rng(3)
    difficulty = generator.uniform(size=(20, 1))
    before, after = (generator.uniform(size=(20, 8)) < difficulty * ease for ease in (0.6, 0.8))
    alone = {row.metric: row for row in compare_results(result(before), result(after))}
    # Three copies of each question say no more than one.
    copied = [np.repeat(scores, 3, axis=0) for scores in (before, after)]
    units = [f"{question:02}" for question in range(20) for _ in range(3)]
    copies = {row.metric: row for row in compare_results(*(result(scores, units=units) for scores in copied))}
    apart = {row.metric: row for row in compare_results(*(result(scores) for scores in copied))}
    for metric in ("mean@1", "pass@8"):
        whole, one, narrow = (rows[metric] for rows in (copies, alone, apart))
        assert whole.difference.value == pytest.approx(one.difference.value)
        assert (whole.difference.low, whole.difference.high) == pytest.approx((one.difference.low, one.difference.high))
        assert whole.p_value == pytest.approx(one.p_value)
        assert narrow.difference.high - narrow.difference.low < 0.8 * (one.difference.high - one.difference.low)
    # They keep their questions in the file.
    first = result(copied[0], units=units)
    again = EvaluationResult.from_json(first.to_json())
    assert [problem.unit for problem in again.per_problem] == units
    assert paired_difference(again, result(copied[1], units=units), "mean@1") == copies["mean@1"].difference
    assert "unit" not in result(before).to_dict()["per_problem"][0]


def test_problems_are_matched_by_id_and_others_left_out() -> None:
    scores = np.array([[1, 1], [0, 0], [1, 0]])
    first = result(scores, ids=["a", "b", "c"])
    second = result(scores[[2, 0]], ids=["c", "a"])
    (row, *_) = compare_results(first, second)
    assert (row.metric, row.difference.value, row.difference.num_problems) == ("mean@1", 0.0, 2)


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"task": "u"}, "task", "task is t in the first and u in the second"),
        ({"split": "train"}, "split", "split is test in the first and train in the second"),
        ({"num_samples": 3}, "num_samples", "num_samples is 2 in the first and 3 in the second"),
        ({"temperature": 0.6}, "temperature", "temperature is 1.0 in the first and 0.6 in the second"),
        ({"top_p": 0.9}, "top_p", "top_p is 1.0"),
        ({"max_completion_length": 8}, "max_completion_length", "max_completion_length is 9"),
        ({"prompt_digest": "e"}, "prompts", "prompts is d in the first and e in the second"),
        ({"grader": "g 2"}, "grader", "grader is g 1 in the first and g 2 in the second"),
        ({"backend": "vllm"}, "backend", "backend is transformers in the first and vllm in the second"),
    ],
)
def test_what_makes_two_evaluations_incomparable_is_named(change: dict, name: str, words: str) -> None:
    scores = np.ones((2, 2))
    first, second = result(scores), replace(result(scores), **change)
    found = comparability(first, second)
    assert [mismatch.name for mismatch in found.differing] == [name]
    assert not found.is_comparable
    assert paired_difference(first, second, "mean@1") is None
    with pytest.raises(DataError, match=words):
        compare_results(first, second)
    if name in MAY_DIFFER:
        assert compare_results(first, second, despite=[name])[0].difference.value == 0.0
    else:
        with pytest.raises(ConfigError, match=f"'{name}' cannot differ"):
            compare_results(first, second, despite=[name])


def test_all_that_differs_is_named_at_once() -> None:
    """The case of issue 12: prompts, grader and backend differ, and a difference was printed."""
    first = result(np.ones((2, 2)))
    second = replace(first, prompt_digest="e", grader="g 2", backend="server")
    assert [mismatch.name for mismatch in comparability(first, second).differing] == ["prompts", "grader", "backend"]
    with pytest.raises(DataError, match="grader is"):
        compare_results(first, second, despite=["prompts", "backend"])


def test_what_an_older_file_does_not_tell_is_unknown_and_said() -> None:
    first = result(np.ones((2, 2)))
    found = comparability(replace(first, prompt_digest="", grader=""), first)
    assert found.is_comparable
    assert found.notes() == [
        "prompts is unknown there and d here, so it may differ",
        "grader is unknown there and g 1 here, so it may differ",
    ]
    assert comparability(first, first).notes() == []


def test_problems_that_only_one_has_are_left_out_and_said() -> None:
    scores = np.ones((3, 2))
    first, fewer = result(scores), result(scores[:2], prompt_digest="of two")
    found = comparability(first, fewer)
    assert found.is_comparable
    assert found.notes()[-1] == "2 problems are in both evaluations, of 3 there and 2 here"
    with pytest.raises(DataError, match="problems is 3, none of them shared"):
        compare_results(first, result(scores, ids=["x", "y", "z"]))


def test_prompts_of_other_sets_of_problems_are_compared_by_what_was_kept_to_read() -> None:
    def shown(prompt: str) -> tuple[SampleRecord, ...]:
        return (SampleRecord("0", prompt, "", "", 1.0, 1, None),)

    scores = np.ones((3, 2))
    first = replace(result(scores), samples=shown("2+2="))
    same, other = (replace(result(scores[:2]), samples=shown(prompt)) for prompt in ("2+2=", "Add 2 and 2."))
    assert comparability(first, same).is_comparable
    assert comparability(first, other).reasons() == "prompts is '2+2=' there and 'Add 2 and 2.' here"


def test_dispersion_needs_one_dictionary_and_one_estimator(make_evaluation: Callable) -> None:
    first, second = make_evaluation(0.2), make_evaluation(0.5, digest="another")
    for other, name in (
        (second, "dictionary"),
        (replace(second, spectrum=None), "dictionary"),
        (replace(first, dsd_estimator="robust"), "estimator"),
    ):
        found = comparability(first, other)
        assert [mismatch.name for mismatch in found.dispersion] == [name]
        assert found.is_comparable_for("mean@1")
        assert not found.is_comparable_for("dsd")
        assert paired_difference(first, other, "dsd") is None
        assert paired_difference(first, other, "mean@1") is not None


def test_differences_are_those_of_the_metrics(make_evaluation: Callable) -> None:
    first, second = make_evaluation(0.2, seed=1), make_evaluation(0.5, seed=2)
    for name in ("mean@1", "pass@16", "pass@4", "entropy", "dsd", "length", "truncated"):
        difference = paired_difference(first, second, name)
        assert difference is not None
        assert difference.value == pytest.approx(second.metrics[name].value - first.metrics[name].value, abs=1e-12)
        assert difference.low <= difference.value <= difference.high
    rows = {row.metric: row.difference for row in compare_results(first, second)}
    assert rows["pass@4"] == paired_difference(first, second, "pass@4")


def test_problems_are_paired_by_id_not_by_place(make_evaluation: Callable) -> None:
    first, second = make_evaluation(0.2, seed=1), make_evaluation(0.5, seed=2)
    turned = replace(second, per_problem=second.per_problem[::-1])
    assert paired_difference(first, turned, "mean@1") == paired_difference(first, second, "mean@1")
    fewer = replace(second, per_problem=second.per_problem[:10])
    difference = paired_difference(first, fewer, "mean@1")
    assert difference is not None
    expected = np.mean(
        [b.mean_score - a.mean_score for a, b in zip(first.per_problem, fewer.per_problem, strict=False)]
    )
    assert (difference.value, difference.num_problems) == (pytest.approx(expected), 10)
    assert paired_difference(first, replace(second, per_problem=()), "mean@1") is None
