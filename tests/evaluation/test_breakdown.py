"""Means by facet and metrics of variants, against numbers worked by hand."""

import numpy as np
import pytest

from relax_rl.evaluation.breakdown import break_down, by_unit, units_of
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import EvaluationResult, SampleRecord
from relax_rl.evaluation.summary import summarize
from relax_rl.tasks import Problem


def sample(identity: str, index: int, score: float | None, answer: int | None = 0) -> Sample:
    return Sample(identity, index, "", (), 1, False, score=score, answer_class=answer, how="boxed")


def variants() -> tuple[list[Problem], list[list[Sample]]]:
    """Two questions of ten variants; the second is wrong once."""
    names = [(seed, variant) for seed in "ab" for variant in range(10)]
    problems = [
        Problem(f"{seed}{variant}", "?", "1", group=seed, facets={"subject": (seed,)}) for seed, variant in names
    ]
    samples = [[sample(one.id, 0, float(one.id != "b3"))] for one in problems]
    return problems, samples


def test_dynamath_average_worst_and_robustness() -> None:
    problems, samples = variants()
    found = break_down(problems, samples)
    assert found["worst"].value == 0.5
    assert found["robustness"].value == pytest.approx(0.5 / 0.95)
    assert (found["mean@1 [subject=a]"].value, found["mean@1 [subject=b]"].value) == (1.0, pytest.approx(0.9))
    assert {name: one.num_problems for name, one in found.items() if "[" not in name} == {"worst": 2, "robustness": 2}
    summary = summarize(samples, units=units_of(problems))
    mean = summary.metrics["mean@1"]
    assert (mean.value, mean.num_problems) == (pytest.approx(0.95), 2)
    # Two questions, not twenty problems: the interval is as wide as their difference.
    assert (mean.low, mean.high) == (pytest.approx(0.9), 1.0)
    assert len(summary.per_problem) == 20


def test_a_worst_case_takes_a_sample_of_each_variant_and_no_score_is_no_excuse() -> None:
    problems = [Problem(name, "?", "1", group="g") for name in "ab"]
    samples = [[sample("a", 0, 1.0), sample("a", 1, 1.0, 1)], [sample("b", 0, None, None), sample("b", 1, 1.0)]]
    found = break_down(problems, samples)
    assert (found["worst"].value, found["consistency"].value) == (0.5, 0.0)


def test_the_gap_between_twins() -> None:
    twins = [("1", "text", 1.0), ("1", "picture", 0.0), ("2", "text", 1.0), ("2", "picture", 1.0)]
    problems = [Problem(f"{group}{twin}", "?", "1", group=group, facets={"twin": (twin,)}) for group, twin, _ in twins]
    found = break_down(problems, [[sample(one.id, 0, score)] for one, (*_, score) in zip(problems, twins, strict=True)])
    assert found["modality_gap"].value == 0.5


def test_problems_that_stand_alone_have_no_breakdown_and_the_same_intervals() -> None:
    problems = [Problem(name, "?", "1") for name in "abc"]
    samples = [[sample(one.id, 0, float(one.id == "a"))] for one in problems]
    assert break_down(problems, samples) == {}
    assert units_of(problems) is None
    assert summarize(samples, units=None).metrics == summarize(samples, units=list("abc")).metrics


def test_units_keep_the_mean_and_leave_out_what_has_no_value() -> None:
    values, weights = by_unit(np.array([1.0, 0.0, np.nan, np.nan]), None, ["a", "a", "b", "a"])
    assert values[0] == 0.5
    assert np.isnan(values[1])
    assert weights is not None
    assert weights.tolist() == [2.0, 0.0]


def test_a_result_keeps_its_breakdown_and_the_names_of_images() -> None:
    problems, samples = variants()
    shown = SampleRecord("a0", "?", "", "1", 1.0, 1, None, images=("folder/a.png",))
    result = EvaluationResult(
        *("dynamath", "test", 20, 1, 1.0, 1.0, 8, 0), {}, samples=(shown,), breakdown=break_down(problems, samples)
    )
    again = EvaluationResult.from_json(result.to_json())
    assert (again.breakdown, again.samples) == (result.breakdown, (shown,))
    one = Sample("a", 0, "", (), 1, False, images=("a.png",))
    assert Sample.from_json(one.to_json()) == one
    assert "images" not in sample("a", 0, 1.0).to_json()
