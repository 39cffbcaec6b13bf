"""Comparisons of breadth: solutions found as a metric, and methods at steps of one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relax_rl.cli.comparison_tables import print_verdict
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import RunRecord, read_runs
from relax_rl.config import load_config
from relax_rl.errors import ConfigError
from relax_rl.evaluation.coverage import coverage_value
from relax_rl.statistics.intervals import bootstrap_mean
from relax_rl.workflows.compare.rehearsal import check_metrics


@pytest.fixture
def runs(make_run: Callable[..., Path], make_evaluation: Callable[..., Any]) -> list[RunRecord]:
    """Two methods, three seeds; every right sample of ReLaX is a solution of its own, those of GRPO are one."""
    paths = [
        make_run(f"{method}{seed}", method, seed=seed, evaluations={"after": make_evaluation(0.4, seed=seed)})
        for seed in range(3)
        for method in ("grpo", "relax")
    ]
    return [_with_modes(run, apart=run.label.startswith("ReLaX")) for run in read_runs(paths)]


def _with_modes(run: RunRecord, *, apart: bool) -> RunRecord:
    result = run.evaluations["after"]
    rows = tuple(
        replace(row, modes=(1,) * row.num_correct if apart else (row.num_correct,) * (row.num_correct > 0))
        for row in result.per_problem
    )
    estimate = bootstrap_mean([coverage_value("modes@4", row) for row in rows])
    assert estimate is not None
    return replace(
        run, evaluations={"after": replace(result, per_problem=rows, metrics={**result.metrics, "modes@4": estimate})}
    )


def test_solutions_among_k_are_compared_by_seed_and_problem(runs: list[RunRecord]) -> None:
    comparison = compare_methods(runs, metrics=["mean@1", "modes@4"])
    _, relax = comparison.methods
    found = relax.differences["modes@4"]
    expected = np.mean(
        [
            [coverage_value("modes@4", row) for row in run.evaluations["after"].per_problem]
            for run in runs
            if run.label.startswith("ReLaX")
        ]
    )
    assert relax.values["modes@4"].value == pytest.approx(expected)
    # A number of solutions is no share, and its interval is not cut to one.
    assert relax.values["modes@4"].high > 1
    assert found.mean.value > 0
    assert relax.differences["mean@1"].mean.value == 0


def _matched(run: RunRecord) -> RunRecord:
    objective: Any = run.config["objective"]
    named = dict(objective) if isinstance(objective, Mapping) else {"name": objective}
    return replace(run, config={**run.config, "objective": {**named, "match_rms": True}})


def test_the_table_says_that_all_methods_were_matched(
    runs: list[RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = compare_methods([_matched(run) for run in runs])
    assert comparison.is_matched
    print_verdict(comparison)
    shown = " ".join(capsys.readouterr().out.split())
    assert "advantages of every method scaled to the size of GRPO's" in shown
    assert "the advantages of every method were scaled to the size of GRPO's (objective.match_rms)" in shown


def test_a_method_that_was_matched_alone_is_named(runs: list[RunRecord]) -> None:
    comparison = compare_methods([_matched(run) if run.label.startswith("ReLaX") else run for run in runs])
    assert not comparison.is_matched
    assert any(remark.startswith("the advantages of ReLaX were scaled") for remark in comparison.remarks)
    assert not any("scaled" in remark for remark in compare_methods(runs).remarks)


def test_solutions_are_tested_on_tasks_that_tell_them_apart_alone() -> None:
    check_metrics(["mean@1", "modes@4"], load_config("countdown", {"evaluation.num_samples": 4}))
    with pytest.raises(ConfigError, match=r"'modes@5' cannot be tested; give mean@1, .*first_reward.* or pass@k"):
        check_metrics(["modes@5"], load_config("countdown", {"evaluation.num_samples": 4}))
    other = load_config("countdown", {"evaluation.num_samples": 4, "task.name": "math500"})
    with pytest.raises(
        ConfigError, match=r"'math500' does not distinguish; .*\(countdown, many_solutions, countdown_muted, maze\)"
    ):
        check_metrics(["modes@4"], other)
