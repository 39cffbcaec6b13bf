"""The results table: its rows and columns, and what it says of a difference that may not be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from relax_rl.comparison.pairs import metric_names
from relax_rl.comparison.records import read_runs
from relax_rl.reports.page import write_report
from relax_rl.reports.tables import ResultRow, comparison_notes, result_rows, results_table
from relax_rl.statistics.intervals import Estimate
from support.runs import DIGEST


def test_a_difference_that_is_not_computed_is_explained(
    make_run: Callable[..., Path], make_evaluation: Callable, tmp_path: Path
) -> None:
    base, other = make_evaluation(0.2), replace(make_evaluation(0.5), grader="countdown, relax-rl 1", backend="vllm")
    dictionary = make_evaluation(0.5, digest="another")
    paths = [
        make_run("a", "grpo", evaluations={"after": base}),
        make_run("b", "relax", evaluations={"before": dictionary, "after": other}),
        make_run("c", "kl_cov", evaluations={"after": replace(dictionary, grader="")}),
    ]
    runs = read_runs(paths)
    assert [row.what for row in result_rows(runs) if row.is_difference] == ["after − GRPO"]
    assert comparison_notes(runs) == [
        "after − before of ReLaX is not computed: grader is countdown, relax-rl 0 before and countdown, relax-rl 1 "
        "after, backend is transformers before and vllm after",
        "after − GRPO of ReLaX is not computed: grader is countdown, relax-rl 0 for GRPO and countdown, relax-rl 1 for "
        "ReLaX, backend is transformers for GRPO and vllm for ReLaX",
        f"after − GRPO of KL-Cov has no DSD: dictionary is {DIGEST} for GRPO and another for KL-Cov",
        "after − GRPO of KL-Cov: grader is countdown, relax-rl 0 for GRPO and unknown for KL-Cov, so it may differ",
    ]
    text = write_report(paths, tmp_path / "r.html").read_text()
    assert "Note: after − GRPO of ReLaX is not computed: grader is countdown, relax-rl 0 for GRPO" in text


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
