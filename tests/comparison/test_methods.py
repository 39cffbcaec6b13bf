"""Methods over seeds in the report: who is grouped, what is drawn, and what the table and the sentences say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from relax_rl.comparison.methods import compare_methods
from relax_rl.comparison.records import by_method, read_runs
from relax_rl.errors import DataError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.reports.curves import PANELS, band_of, plot_curve, smooth
from relax_rl.reports.page import write_report
from relax_rl.reports.tables import comparison_table
from relax_rl.statistics.seeded_means import SeededMean


@pytest.fixture
def grid(make_run: Callable[..., Path], make_evaluation: Callable) -> list[Path]:
    """Two methods, three seeds; ReLaX is better by far."""
    paths = []
    for seed in range(3):
        for number, (method, skill) in enumerate((("grpo", 0.3), ("relax", 0.6))):
            evaluations = {
                "before": make_evaluation(0.2, seed=1),
                "after": make_evaluation(skill, seed=10 * seed + number),
            }
            paths.append(make_run(f"{method}{seed}", method, seed=seed, evaluations=evaluations))
    return paths


def test_runs_that_differ_in_the_seed_alone_are_one_method(grid: list[Path], make_run: Callable[..., Path]) -> None:
    assert {name: len(runs) for name, runs in by_method(read_runs(grid)).items()} == {"GRPO": 3, "ReLaX": 3}
    other = make_run("other", "grpo", seed=7, model="another")
    assert len(by_method(read_runs([*grid, other]))) == 5  # one name, two kinds of run: each by itself
    repeated = make_run("again", "grpo", seed=0)
    assert len(by_method(read_runs([*grid, repeated]))) == 5  # the same seed twice is no replicate
    assert [run.method for run in read_runs(grid[:2], ["a", "b"])] == ["a", "b"]


def test_difference_is_that_of_the_seeds_means_and_its_p_no_bolder_than_theirs(grid: list[Path]) -> None:
    runs = read_runs(grid)
    comparison = compare_methods(runs)
    assert (comparison.baseline, comparison.metrics) == ("GRPO", ("mean@1", "pass@16"))
    base, relax = comparison.methods
    means = {
        name: [run.evaluations["after"].metrics["mean@1"].value for run in members]
        for name, members in by_method(runs).items()
    }
    found = relax.differences["mean@1"]
    assert found.mean.value == pytest.approx(np.mean(means["ReLaX"]) - np.mean(means["GRPO"]))
    assert found.corrected_p >= stats.ttest_rel(means["ReLaX"], means["GRPO"]).pvalue * (1 - 1e-9)
    assert found.is_seen
    assert base.differences == {}
    assert base.sentence == "GRPO: the baseline of 1 comparison."
    assert relax.sentence.startswith("ReLaX: better than GRPO in mean@1, +0.")
    assert "<b>+0." in comparison_table(comparison)


def test_only_shared_seeds_are_paired_and_other_settings_refused(
    grid: list[Path], make_run: Callable[..., Path], make_evaluation: Callable, tmp_path: Path
) -> None:
    comparison = compare_methods(read_runs(grid[:-1]))
    assert comparison.methods[1].differences["mean@1"].mean.num_seeds == 2
    assert comparison.methods[0].values["mean@1"].num_seeds == 3
    odd = make_run("odd", "kl_cov", evaluations={"after": replace(make_evaluation(0.3), temperature=0.5)})
    with pytest.raises(DataError, match=r"other settings .*: temperature is 1.0 in the latter and 0.5 in the former"):
        compare_methods(read_runs([*grid, odd]))
    text = write_report([*grid, odd], tmp_path / "odd.html").read_text()
    assert "is not computed: temperature is 1.0 for GRPO, seed 0 and 0.5 for KL-Cov" in text
    with pytest.raises(DataError, match="no run of any method"):
        compare_methods(read_runs([make_run("young")]))


def test_variants_of_a_question_are_one_column(make_run: Callable[..., Path], make_evaluation: Callable) -> None:
    def copied(evaluation: EvaluationResult) -> EvaluationResult:
        variants = [
            replace(problem, id=f"{problem.id} {variant}", unit=problem.id)
            for problem in evaluation.per_problem
            for variant in range(3)
        ]
        return replace(evaluation, per_problem=tuple(variants))

    def difference(name: str, change: Callable[[EvaluationResult], EvaluationResult]) -> SeededMean:
        paths = [
            make_run(f"{name} {method} {seed}", method, seed=seed, evaluations={"after": change(after)})
            for seed in range(3)
            for method, after in (
                ("grpo", make_evaluation(0.3, seed=seed)),
                ("relax", make_evaluation(0.4, seed=9 + seed)),
            )
        ]
        return compare_methods(read_runs(paths)).methods[1].differences["mean@1"].mean

    one, three = difference("alone", lambda evaluation: evaluation), difference("copied", copied)
    assert three.num_problems == one.num_problems
    assert (three.value, three.low, three.high) == pytest.approx((one.value, one.low, one.high))


def test_methods_that_are_one_under_these_settings_are_named(
    make_run: Callable[..., Path], make_evaluation: Callable
) -> None:
    after = [make_evaluation(0.4, seed=seed) for seed in range(2)]
    names = ("grpo", "dapo", "kl_cov")
    paths = [
        make_run(
            f"{name}{seed}", name, seed=seed, evaluations={"after": make_evaluation(0.3) if name == "grpo" else one}
        )
        for seed, one in enumerate(after)
        for name in names
    ]
    assert compare_methods(read_runs(paths)).remarks == ("DAPO and KL-Cov measure alike in every run",)


def test_band_is_the_range_of_the_smoothed_curves(grid: list[Path]) -> None:
    runs = read_runs(grid)
    ax = plot_curve(runs, PANELS[0])
    assert [line.get_label() for line in ax.lines] == ["GRPO", "ReLaX"]
    smoothed = np.array([smooth(run.curve("reward")[1]) for run in by_method(runs)["GRPO"]])
    assert ax.lines[0].get_ydata() == pytest.approx(smoothed.mean(axis=0))
    outline = np.asarray(ax.collections[0].get_paths()[0].vertices)
    assert (outline[:, 1].min(), outline[:, 1].max()) == pytest.approx((smoothed.min(), smoothed.max()))
    steps, low, middle, high = band_of([(np.array([1.0, 2, 3]), np.array([1.0, 10, 100]))] * 2, is_log=True)
    assert steps.tolist() == [1, 2, 3]
    assert low == pytest.approx(middle)
    assert high == pytest.approx([1, 10, 100])
    steps, *_ = band_of([(np.array([1.0, 2]), np.array([1.0, 1])), (np.array([2.0, 3]), np.array([1.0, 1]))])
    assert steps.tolist() == [2]  # a run that has not come as far


@pytest.mark.slow
def test_page_of_a_comparison_has_sentences_data_and_one_plane_a_method(grid: list[Path], tmp_path: Path) -> None:
    text = write_report(grid, tmp_path / "r.html").read_text()
    assert "ReLaX: better than GRPO in mean@1" in text
    assert 'download="methods.csv"' in text
    assert "GRPO and ReLaX on countdown" in text
    assert "6 runs of the policy tiny, 3 seeds" in text
    shown = text.split('<h2 id="spectra">')[1].split("<h2")[0]
    assert "GRPO" in shown
    assert "GRPO, seed" not in shown
    turned = write_report(grid, tmp_path / "s.html", methods=["A", "B"] * 3, baseline="B").read_text()
    assert "A: worse than B in mean@1" in turned


def test_the_verdict_obeys_the_rule_of_pairs(make_run: Callable[..., Path], make_evaluation: Callable) -> None:
    """Another grader, other prompts or another backend: `relax compare` refused none of them before."""
    base = make_evaluation(0.3)
    first = make_run("grpo0", "grpo", evaluations={"after": base})
    for number, (change, name) in enumerate(
        [({"grader": "another"}, "grader"), ({"prompt_digest": "x"}, "prompts"), ({"backend": "vllm"}, "backend")]
    ):
        unlike = make_run(f"relax{number}", "relax", evaluations={"after": replace(base, **change)})
        with pytest.raises(DataError, match=f"other settings than .*: {name} is"):
            compare_methods(read_runs([first, unlike]))
    silent = make_run("old", "relax", evaluations={"after": replace(make_evaluation(0.4), grader="")})
    assert compare_methods(read_runs([first, silent])).remarks == (
        "grader is unknown for some evaluations, which an earlier version wrote: it may differ",
    )
