"""The metrics of an evaluation, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relax_rl.evaluation.metrics import CORRECT_MIN, count_verdicts
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.summary import summarize
from relax_rl.statistics.intervals import bootstrap_mean


def problem(name: str, scores: list[float | None], **columns: list) -> list[Sample]:
    """Samples of one problem; each column holds a value a sample."""
    rows = [Sample(name, index, "", (), 10, False, score=score) for index, score in enumerate(scores)]
    return [replace(row, **{key: column[row.index] for key, column in columns.items()}) for row in rows]


PARTLY = problem(
    "partly",
    [1.0, 0.5, None, 0.0],
    num_tokens=[10, 20, 30, 40],
    truncated=[False, False, False, True],
    entropy=[1.0, 2.0, 3.0, 4.0],
    dsd=[0.5, None, 1.5, None],
    extracted=["3", "4", None, "5"],
    how=["boxed"] * 4,
    answer_class=[0, 1, None, 2],
    path=["x", "y", "", "z"],
    reason=[None, None, "gold unreadable", None],
)
MOSTLY = problem(
    "mostly",
    [1.0, 1.0, CORRECT_MIN, 0.0],
    num_tokens=[5] * 4,
    entropy=[1.0, 1.0, 1.0, 2.0],
    extracted=["1", "1.0", "2", "3"],
    how=["boxed"] * 4,
    answer_class=[0, 0, 1, 2],
    path=["x", "x", "y", "z"],
    reason=[None, None, None, "too long"],
)
UNTOLD = problem(
    "untold", [0.0] * 4, num_tokens=[1] * 4, entropy=[0.1, 0.1, 0.1, None], reason=[None, None, "too long", "too long"]
)


def test_every_metric_by_hand() -> None:
    summary = summarize([PARTLY, MOSTLY, UNTOLD], with_dsd=True)
    values = {name: estimate.value for name, estimate in summary.metrics.items()}
    assert values == pytest.approx(
        {
            "mean@1": (0.5 + 0.75 + 0.0) / 3,
            "pass@2": (2 / 3 + 1.0 + 0.0) / 3,
            "pass@4": (1.0 + 0.0) / 2,  # of three scored samples no four can be drawn
            "maj@4": (0.5 + 1.0) / 2,  # three answers tie in the first, and the last tells none
            "entropy": (10 + 5) / 120,  # nats over tokens
            "dsd": 1.0,
            "dsd_defined": 0.5 / 3,
            "length": (25 + 5 + 1) / 3,
            "truncated": 0.25 / 3,
            "no_answer": 0.125,
            "distinct_correct": 1.5,
            "distinct_paths": 1.0,
            "all_wrong": 1 / 3,
            "all_right": 0.0,
            "not_scored": 0.25 / 3,
            "ungradable": 0.25,
        }
    )
    assert [estimate.value for estimate in summary.pass_at_k] == pytest.approx([13 / 36, 5 / 9, 2 / 3, 0.5])
    assert [result.id for result in summary.per_problem] == ["partly", "mostly", "untold"]
    assert [result.distinct_correct for result in summary.per_problem] == [1, 2, None]
    assert [result.entropy for result in summary.per_problem] == [0.1, 0.25, None]
    assert list(summary.reasons.items()) == [("too long", 3), ("gold unreadable", 1)]


@pytest.mark.parametrize(
    ("num_samples", "names"), [(1, []), (2, ["pass@2"]), (3, ["pass@2"]), (5, ["pass@2", "pass@4"])]
)
def test_pass_at_k_is_a_metric_for_powers_of_two(num_samples: int, names: list[str]) -> None:
    summary = summarize([problem("only", [1.0] * num_samples)])
    assert [name for name in summary.metrics if name.startswith("pass@")] == names
    assert len(summary.pass_at_k) == num_samples


def test_what_nothing_was_measured_of_is_no_metric() -> None:
    summary = summarize([UNTOLD])
    assert not {"dsd", "dsd_defined", "entropy", "maj@4", "no_answer", "distinct_correct"} & summary.metrics.keys()
    assert "dsd" not in summarize([PARTLY]).metrics
    (unscored,) = summarize([problem("none", [None, None])]).per_problem
    assert (unscored.mean_score, unscored.num_scored) == (None, 0)


def test_the_seed_is_that_of_every_interval() -> None:
    rows = [problem(str(place), [float(place % 3 > 0), float(place % 5 > 0)]) for place in range(30)]
    first, second = (np.array([[sample.score for sample in row] for row in rows]).T).astype(float)
    for seed in (0, 3):
        summary = summarize(rows, seed=seed)
        assert summary.metrics["mean@1"] == bootstrap_mean((first + second) / 2, seed=seed)
        assert summary.metrics["pass@2"] == summary.pass_at_k[1] == bootstrap_mean(np.maximum(first, second), seed=seed)
    assert summarize(rows) == summarize(rows, seed=0) != summarize(rows, seed=3)


def test_a_score_is_correct_from_the_limit_on() -> None:
    just_below = float(np.nextafter(CORRECT_MIN, 0.0))
    (counts,) = count_verdicts([[CORRECT_MIN, just_below, 0.0, 1.0]])
    assert (counts.num_correct, counts.num_scored) == (2, 4)
