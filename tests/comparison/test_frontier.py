"""A comparison with a frontier: which methods lie above it, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.comparison_tables import print_verdict
from relax_rl.comparison.contents import Contents
from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import RunRecord
from relax_rl.comparison.tables import write_comparison_data
from relax_rl.errors import ConfigError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.statistics.intervals import Estimate
from relax_rl.workflows.compare import prepare_comparison

POINTS = {"weak": (0.6, 0.7), "strong": (0.4, 0.9), "above": (0.5, 0.9), "below": (0.5, 0.7)}
FRONTIER = ("weak", "strong")


@pytest.fixture
def runs(
    make_run: Callable[..., Path], make_evaluation: Callable[..., EvaluationResult]
) -> Callable[..., list[RunRecord]]:
    """Runs of all methods with so many seeds; each seed moves a method a little."""
    result = make_evaluation(0.3)
    folder = make_run("one", evaluations={"after": result})

    def made(seeds: int) -> list[RunRecord]:
        return [
            RunRecord(folder, name, {}, (), {"after": with_values(result, x + 0.001 * seed, y)}, (), name)
            for seed in range(seeds)
            for name, (x, y) in POINTS.items()
        ]

    return lambda seeds: [replace(run, config={"seed": place // 4}) for place, run in enumerate(made(seeds))]


def with_values(result: EvaluationResult, mean: float, breadth: float) -> EvaluationResult:
    """The evaluation with these two estimates."""
    own = {"mean@1": mean, "pass@16": breadth}
    return replace(
        result, metrics={**result.metrics, **{name: Estimate(value, value, value, 40) for name, value in own.items()}}
    )


def test_a_method_is_above_only_at_its_own_accuracy(runs: Any, tmp_path: Path, capsys: Any) -> None:
    found = compare_methods(runs(8), "weak", ["mean@1", "pass@16"], FRONTIER)
    assert {one.method: one.verdict for one in found.above} == {"above": "above", "below": "not above"}
    distances = {one.method: one.distance for one in found.above}
    assert distances == pytest.approx({"above": 0.1035, "below": -0.0965}, abs=0.004)
    print_verdict(found)
    assert "above the frontier of weak, strong" in capsys.readouterr().out
    write_comparison_data(found, [], tmp_path)
    rows = list(csv.DictReader((tmp_path / "frontier.csv").open()))
    assert [(row["method"], row["metric"], row["seeds"]) for row in rows] == [
        ("above", "pass@16", "8"),
        ("below", "pass@16", "8"),
    ]


def test_too_few_seeds_have_no_verdict_and_no_frontier_no_table(runs: Any, tmp_path: Path, capsys: Any) -> None:
    found = compare_methods(runs(3), "weak", ["pass@16"], FRONTIER)
    assert {one.verdict for one in found.above} == {"no verdict below 6 seeds"}
    plain = compare_methods(runs(3), "weak", ["pass@16"])
    assert plain.above == ()
    print_verdict(plain)
    write_comparison_data(plain, [], tmp_path)
    assert "frontier" not in capsys.readouterr().out
    assert not (tmp_path / "frontier.csv").exists()


def test_the_folder_of_a_comparison_keeps_its_frontier(tmp_path: Path) -> None:
    contents = Contents("a", {"a": "a", "b": "b"}, [0], None, ("a", "b"))
    contents.write(tmp_path)
    assert list(Contents.read(tmp_path).frontier) == ["a", "b"]
    (tmp_path / "comparison.json").write_text('{"baseline": "a", "methods": {"a": "a"}, "seeds": [0]}')
    assert list(Contents.read(tmp_path).frontier) == []


@pytest.mark.parametrize(
    ("frontier", "words"),
    [
        (["grpo:beta=0.1", "maxrl"], r"--frontier has 'maxrl', which is not one of --methods"),
        (["grpo"], "--frontier names 1 of 3 methods; it takes two or more"),
        (["grpo", "grpo:beta=0.1", "relax"], "--frontier names 3 of 3 methods"),
    ],
)
def test_what_is_refused(frontier: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare_comparison("countdown", "grpo,grpo:beta=0.1,relax", 1, output=tmp_path / "c", frontier=frontier)
