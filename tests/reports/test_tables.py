"""The numbers of the results table against numpy, and the cases in which no difference may be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relax_rl.comparison.records import read_runs
from relax_rl.reports.tables import ResultRow, metric_names, paired_difference, result_rows, results_table
from relax_rl.statistics.intervals import Estimate


def test_differences_are_those_of_the_metrics(make_evaluation: Callable) -> None:
    first, second = make_evaluation(0.2, seed=1), make_evaluation(0.5, seed=2)
    for name in ("mean@1", "pass@16", "pass@4", "entropy", "dsd", "length", "truncated"):
        difference = paired_difference(first, second, name)
        assert difference is not None
        assert difference.value == pytest.approx(second.metrics[name].value - first.metrics[name].value, abs=1e-12)
        assert difference.low <= difference.value <= difference.high


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


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.6}, {"num_samples": 8}, {"split": "train"}, {"max_new_tokens": 12}, {"per_problem": ()}],
)
def test_unlike_evaluations_are_not_compared(make_evaluation: Callable, change: dict) -> None:
    first = make_evaluation(0.2)
    assert paired_difference(first, replace(make_evaluation(0.5), **change), "mean@1") is None


def test_dsd_under_two_dictionaries_is_not_compared(make_evaluation: Callable) -> None:
    first, second = make_evaluation(0.2), make_evaluation(0.5, digest="another")
    assert paired_difference(first, second, "dsd") is None
    assert paired_difference(first, replace(second, spectrum=None), "dsd") is None
    assert paired_difference(first, replace(first, dsd_estimator="robust"), "dsd") is None
    assert paired_difference(first, second, "mean@1") is not None


def test_rows_and_columns_follow_what_was_measured(make_run: Callable[..., Path], make_evaluation: Callable) -> None:
    start = make_evaluation(0.2)
    without = replace(start, metrics={k: v for k, v in start.metrics.items() if k not in ("dsd", "pass@16")})
    runs = read_runs(
        [
            make_run("a", "grpo", evaluations={"before": without, "after": make_evaluation(0.4)}),
            make_run("b", "relax", evaluations={"after": make_evaluation(0.6)}),
        ]
    )
    assert metric_names(runs) == ["mean@1", "pass@8", "entropy", "dsd", "length", "truncated"]
    rows = result_rows(runs)
    assert [(row.run, row.what) for row in rows] == [
        ("GRPO", "before"),
        ("GRPO", "after"),
        ("GRPO", "after − before"),
        ("ReLaX", "after"),
        ("ReLaX", "after − GRPO"),
    ]
    assert "dsd" not in rows[0].cells


def test_unscored_samples_get_a_column(make_run: Callable[..., Path], make_evaluation: Callable) -> None:
    result = make_evaluation(0.4)
    broken = replace(result, metrics={**result.metrics, "not_scored": Estimate(0.2, 0.1, 0.3, 40)})
    assert metric_names(read_runs([make_run("a", evaluations={"after": broken})]))[-1] == "not_scored"
    assert "not_scored" not in metric_names(read_runs([make_run("b", evaluations={"after": result})]))


def test_only_a_difference_that_excludes_zero_is_bold() -> None:
    clear, unclear = Estimate(-0.05, -0.08, -0.02, 9), Estimate(0.05, -0.01, 0.1, 9)
    rows = [
        ResultRow("A", "after", False, {"mean@1": Estimate(0.5, 0.4, 0.6, 9)}),
        ResultRow("A", "after − before", True, {"mean@1": clear, "entropy": unclear}),
    ]
    table = results_table(rows, ["mean@1", "entropy"])
    assert table.count("<b>") == 1
    assert "<b>−0.050</b>" in table
    assert "[−0.010, +0.100]" in table
    assert "[0.400, 0.600]" in table
