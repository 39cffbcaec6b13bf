"""Measures of breadth by which methods are compared, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relax_rl.cli.breadth_tables import print_discovery
from relax_rl.cli.comparison_tables import print_verdict
from relax_rl.comparison.measures import better, is_share, measured, sampled_measures
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import RunRecord, read_runs
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.reports.page import write_report
from relax_rl.runs import RunDirectory
from relax_rl.workflows.compare.rehearsal import check_metrics

BEFORE = [{"x": 2, "y": 1}, {"x": 1}, {}, {}]
AFTER = [{"x": 1, "z": 1}, {}, {"x": 4}, {}]
ROLLOUTS = [[("0", 0.0, "x")], [("0", 1.0, "x"), ("1", 1.0, "y")], [("0", 0.0, "x"), ("1", 1.0, "y")]]

Made = Callable[..., EvaluationResult]


def evaluation(made: Made, found: list[dict[str, int]]) -> EvaluationResult:
    """Four samples of each problem, so many right ones of each mode."""
    rows = tuple(
        ProblemResult(
            str(place),
            sum(modes.values()),
            4,
            sum(modes.values()) / 4,
            modes=tuple(modes.values()),
            mode_keys=tuple(modes),
        )
        for place, modes in enumerate(found)
    )
    return replace(made(0.4), per_problem=rows)


@pytest.fixture
def make(make_run: Callable[..., Path], make_evaluation: Made) -> Callable[..., Path]:
    """A run of four updates, with rollouts from the third on and two evaluations."""

    def made(name: str, method: str = "grpo", rollouts: Any = ROLLOUTS, **options: Any) -> Path:
        of = {"before": evaluation(make_evaluation, BEFORE), "after": evaluation(make_evaluation, AFTER)}
        path = make_run(name, method, num_steps=4, **{"evaluations": of, **options})
        for file in (path / "completions").iterdir():
            file.unlink()
        for step, rows in enumerate(rollouts, start=2):
            lines = [json.dumps({"step": step, "problem_id": p, "reward": r, "mode": m}) + "\n" for p, r, m in rows]
            RunDirectory(path).completions_path(step).write_text("".join(lines))
        return path

    return made


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("pass@2", [5 / 6, 0.0, 1.0, 0.0]),
        ("modes@4", [2.0, 0.0, 1.0, 0.0]),
        ("effective_modes", [2.0, np.nan, 1.0, np.nan]),
        ("top_mode", [0.5, np.nan, 1.0, np.nan]),
        ("all_wrong", [0.0, 1.0, 0.0, 1.0]),
        ("all_right", [0.0, 0.0, 1.0, 0.0]),
        ("lost", [0.0, 1.0, 0.0, 0.0]),
        ("gained", [0.0, 0.0, 1.0, 0.0]),
        ("solutions_lost", [1.0, 1.0, 0.0, 0.0]),
        ("solutions_gained", [1.0, 0.0, 1.0, 0.0]),
        # Of x and y, two of four samples have x with probability 1 / 2, and y never.
        ("recovered@2", [0.25, 0.0, np.nan, np.nan]),
    ],
)
def test_a_measure_has_a_value_for_each_problem(make: Callable[..., Path], metric: str, values: list[float]) -> None:
    (run,) = read_runs([make("a")])
    assert list(measured(run, metric).values()) == pytest.approx(values, nan_ok=True)
    assert metric in sampled_measures(4)


def test_discoveries_are_of_the_run(make: Callable[..., Path]) -> None:
    (run,) = read_runs([make("a")])
    names = ("first_reward", "problems_rewarded", "solutions_ever", "solutions_now")
    # Of the two solutions ever found, the last rollout still has that of problem 1.
    assert [measured(run, name) for name in names] == [{"run": value} for value in (3.0, 2.0, 2.0, 1.0)]
    (never,) = read_runs([make("never", rollouts=ROLLOUTS[:1])])
    assert measured(never, "first_reward") == {"run": 5.0}  # after the fourth update, its last
    (untold,) = read_runs([make("untold", rollouts=[[("0", 1.0, None)]])])
    assert np.isnan(measured(untold, "solutions_ever")["run"])


def test_methods_are_compared_by_change_and_by_discovery(make: Callable[..., Path]) -> None:
    late = [[("0", 0.0, "x")], [("0", 0.0, "x")], [("0", 1.0, "x")]]
    paths = [
        make(f"{method}{seed}", method, rollouts, seed=seed)
        for method, rollouts in (("grpo", ROLLOUTS), ("maxrl", late))
        for seed in range(3)
    ]
    comparison = compare_methods(read_runs(paths), metrics=["first_reward", "lost", "recovered@2"])
    base, other = comparison.methods
    assert base.values["first_reward"].value == 3
    assert other.differences["first_reward"].mean.value == 1
    assert other.differences["lost"].mean.value == 0
    assert (base.values["lost"].value, base.values["recovered@2"].value) == pytest.approx((0.25, 0.125))
    assert base.values["lost"].high <= 1
    assert "first_reward +1.000" in other.sentence


def test_every_metric_and_every_name_has_room_on_the_screen(
    make: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ["mean@1", "pass@2", "first_reward", "lost", "recovered@2"]
    paths = [make(f"{method}{seed}", method, seed=seed) for method in ("grpo", "latent_coverage") for seed in range(2)]
    print_verdict(compare_methods(read_runs(paths), metrics=metrics))
    printed = capsys.readouterr().out
    # Values and differences by two metrics a table; the first one folds names, for what else it has.
    assert printed.count("│ latent_coverage │") >= 5
    assert [printed.count(f" {name} ") >= 2 for name in metrics] == [True] * 5


def test_a_change_needs_the_evaluation_before(make: Callable[..., Path], make_evaluation: Made) -> None:
    (run,) = read_runs([make("a", evaluations={"after": evaluation(make_evaluation, AFTER)})])
    with pytest.raises(DataError, match=r"lost is a change from before training, and .* has no evaluation there"):
        measured(run, "lost")
    with pytest.raises(DataError, match="entropy_law is not kept problem by problem"):
        measured(run, "entropy_law")
    settings = load_config("countdown", {"evaluation.before": False, "evaluation.num_samples": 4})
    with pytest.raises(ConfigError, match=r"'recovered@4' is a change from before .*; set evaluation.before = true"):
        check_metrics(["first_reward", "recovered@4"], settings)


def test_words_and_bounds_of_measures() -> None:
    assert [better(name, 0.1) for name in ("pass@4", "lost")] == ["better", "higher"]
    assert [better(name, -0.1) for name in ("modes@4", "first_reward")] == ["worse", "lower"]
    assert [is_share(name) for name in ("recovered@2", "lost", "modes@2", "solutions_lost")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_page_and_the_screen_tell_of_solutions_and_discoveries(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make("a")
    text = write_report([path], tmp_path / "r.html").read_text()
    assert "GRPO: the first reward came at update 3, and on 2 problems; rollouts ever found 2 solutions" in text
    assert "won 0.50 [" in text
    assert "2 samples recover 0.12 [" in text
    assert "of the 0.75 that were found before" in text
    print_discovery(RunDirectory.open(path))
    printed = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert {name.strip(): int(value) for name, value in printed} == {
        "first_reward": 3,
        "problems_rewarded": 2,
        "solutions_ever": 2,
        "solutions_now": 1,
    }
    RunDirectory(path).completions_path(3).write_text("no row\n{}\n")
    assert "what its rollouts discovered cannot be read" in write_report([path], tmp_path / "b.html").read_text()


def test_a_second_look_reads_only_what_is_new(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import relax_rl.comparison.discovery as module

    path, read = make("a"), list[str]()
    original = module.read_rows
    monkeypatch.setattr(module, "read_rows", lambda file: read.append(file.name) or original(file))
    first: list[RunRecord] = read_runs([path])
    assert measured(first[0], "first_reward") == measured(first[0], "first_reward")
    RunDirectory(path).completions_path(9).write_text(
        json.dumps({"problem_id": "9", "reward": 1.0, "mode": "x"}) + "\n"
    )
    assert measured(first[0], "solutions_ever") == {"run": 3.0}
    assert read == [f"step_{step:06d}.jsonl" for step in (2, 3, 4, 9)]
