"""``relax compare``: what it would run, what it refuses, what it says of finished runs, and that it survives a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from relax_rl.cli.main import main
from relax_rl.comparison.contents import Contents
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.runs import RunDirectory
from relax_rl.runs.lock import LOCK_FILE, FolderLock, Owner
from relax_rl.statistics.intervals import bootstrap_mean
from relax_rl.workflows.compare.plan import parse_methods, plan_runs
from support.comparisons import SMALL, wait_for


def compare(*words: str, folder: Path) -> list[str]:
    return ["compare", "countdown", "--output", str(folder), *SMALL, *words]


# Mistakes and rehearsals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "grpo,relax:trainer.max_steps=9"], "trainer.max_steps = 9, which all methods"),
        (["--methods", "grpo,relax:evaluation.num_problems=9"], "which all methods of a comparison share"),
        (["--methods", "grpo,relax", "--objective.alpha", "1"], "would be for every method"),
        (["--methods", "grpo,relax", "--baseline", "relx"], "did you mean 'relax'"),
        (["--methods", "grpo", "--evaluation.enabled", "false"], "evaluation.enabled is false"),
        (["--methods", "grpo", "--jobs", "0"], "--jobs is 0"),
        (
            ["--methods", "grpo", "--metrics", "mean@1,pass@9"],
            "recovered@k with k from 1 to evaluation.num_samples = 4",
        ),
        (["--methods", "grpo", "--metrics", "entropy"], "'entropy' cannot be tested"),
        (["--methods", "grpo,grpo:alpha"], "'alpha' in 'grpo:alpha' is not an option; write grpo:OPTION=VALUE"),
        (["--methods", "grpo,gpro"], "'gpro' does not exist; did you mean"),
        (["--methods", "grpo,relax:alpa=1"], "'relax:alpa=1': The objective 'relax' has no setting 'alpa'"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(compare(*words, folder=tmp_path / "c")) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_runs_and_completions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare("--methods", "grpo,kl_cov", "--seeds", "3", "--dry-run", folder=tmp_path / "c")) == 0
    shown = capsys.readouterr().out
    assert "notice    kl_cov: A rollout batch serves one update, so every ratio is 1: objective.k_ratio" in shown
    assert "runs      6: 0 finished, 0 begun, 6 to start; 1 at once" in shown
    assert "in all    96 completions to train on, 384 to evaluate" in shown  # 6 x 2 x 8, and 6 x 2 x 8 x 4
    assert list(tmp_path.iterdir()) == []


def test_one_comparison_at_a_time_works_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, words = tmp_path / "c", compare("--methods", "grpo", "--dry-run", folder=tmp_path / "c")
    with FolderLock(folder, "comparison").held():
        assert main(words) == 2
        assert f"is at work on the comparison {folder}; wait for it" in capsys.readouterr().err
    assert not folder.exists()
    # One that was killed before it wrote anything is no other content.
    folder.mkdir()
    FolderLock(folder, "comparison").acquire()
    lock = json.loads((folder / LOCK_FILE).read_text())
    (folder / LOCK_FILE).write_text(json.dumps(lock | {"began": "another process of that number"}))
    assert main(words) == 0


# Finished runs --------------------------------------------------------------------------------------------------------


def evaluation(rates: np.ndarray, seed: int) -> EvaluationResult:
    """Four samples of each problem, drawn at its rate."""
    correct = np.random.default_rng(seed).binomial(4, rates)
    values = {"mean@1": correct / 4, "pass@4": np.array([pass_at_k(4, int(c), 4) for c in correct])}
    values |= {"entropy": np.full(len(rates), 0.2), "dsd": np.full(len(rates), 0.04)}
    metrics = {name: bootstrap_mean(value) for name, value in values.items()}
    return EvaluationResult(
        *("countdown", "test", len(rates), 4, 1.0, 1.0, 96, 0),
        metrics={name: estimate for name, estimate in metrics.items() if estimate is not None},
        per_problem=tuple(
            ProblemResult(f"p{i}", int(c), 4, c / 4, 0.2, 40.0, 0.04, 0.0) for i, c in enumerate(correct)
        ),
        backend="transformers",
        prompt_digest="d",
        grader="g",
    )


def pretend_finished(folder: Path, methods: str, seeds: int, gains: dict[str, float]) -> None:
    """Run directories as training leaves them, with a true gain over a rate of 0.3 for each method."""
    for number, planned in enumerate(plan_runs("countdown", SMALL, parse_methods(methods), range(seeds), folder)):
        run = RunDirectory.new(planned.config.output_path)
        run.start(planned.config)
        for step in (1, 2):
            run.append_metrics(step, {"reward": 0.3, "entropy": 0.2, "step_time": 1.5, "num_tokens": 100.0 * step})
            run.write_completions(step, [{"problem_id": f"seed{planned.seed}-{step}", "completion": "", "reward": 0}])
        base = np.linspace(0.1, 0.5, 64)
        run.write_evaluation("before", asdict(evaluation(base, 99)))
        run.write_evaluation("after", asdict(evaluation(base + gains[planned.method], number)))
    labels = {method.label: method.folder for method in parse_methods(methods)}
    Contents("grpo", labels, list(range(seeds))).write(folder)


@pytest.mark.slow
def test_finished_runs_are_compared_without_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "c"
    gains = {"grpo": 0.0, "relax": 0.3, "kl_cov": 0.0}
    pretend_finished(folder, "grpo,relax,kl_cov", 4, gains)
    words = compare("--methods", "grpo,relax,kl_cov", "--seeds", "4", folder=folder)
    assert main(words) == 0
    told = capsys.readouterr()
    assert "12 of 12 runs were finished before" in told.err
    assert re.search(r"relax: better than grpo in mean@1, \+0\.[23]", told.out)
    assert "kl_cov: no significant difference in mean@1" in told.out
    assert "seeds" in told.out.split("kl_cov: no significant difference")[1]
    assert "note:" not in told.out
    with (folder / "methods.csv").open() as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    with (folder / "problems.csv").open() as file:
        problems = [row for row in csv.DictReader(file) if row["evaluation"] == "after"]
    mean = {name: np.mean([int(row["num_correct"]) / 4 for row in problems if row["method"] == name]) for name in gains}
    assert len(problems) == 3 * 4 * 64
    assert float(rows["relax", "mean@1"]["difference"]) == pytest.approx(mean["relax"] - mean["grpo"])
    assert float(rows["relax", "mean@1"]["corrected_p"]) < 0.05 < float(rows["kl_cov", "mean@1"]["corrected_p"])
    with (folder / "runs.csv").open() as file:
        after = [row for row in csv.DictReader(file) if row["evaluation"] == "after"]
    assert {(row["updates"], row["seconds"], row["tokens"]) for row in after} == {("2", "3.0", "200")}
    assert "<svg" not in (folder / "report.html").read_text()
    # The order of the runs' other seeds and the baseline may be asked for anew; nothing is trained again.
    assert main([*words, "--baseline", "relax"]) == 0
    assert "grpo: worse than relax in mean@1, -0." in capsys.readouterr().out


@pytest.mark.slow
def test_the_metrics_asked_for_are_tested_and_remembered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "c"
    pretend_finished(folder, "grpo,relax", 4, {"grpo": 0.0, "relax": 0.3})
    words = compare("--methods", "grpo,relax", "--seeds", "4", "--metrics", "mean@1,pass@2", folder=folder)
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "better than grpo in pass@2" in told
    assert "pass@4" not in told
    with (folder / "methods.csv").open() as file:
        tested = {row["metric"] for row in csv.DictReader(file) if row["difference"]}
    assert tested == {"mean@1", "pass@2"}
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 0
    assert "better than grpo in pass@2" in (tmp_path / "page.html").read_text()


def test_a_changed_config_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "c"
    pretend_finished(folder, "grpo,relax", 1, {"grpo": 0, "relax": 0})
    before = sorted(folder.rglob("*"))
    words = compare("--methods", "grpo,relax:alpha=0.3", "--seeds", "1", folder=folder)
    assert main([*words, "--trainer.max_steps", "3"]) == 2
    assert "trainer.max_steps was 2 and is now 3" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_report_of_the_folder_is_the_page_of_the_comparison(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    pretend_finished(folder, "grpo,relax", 2, {"grpo": 0, "relax": 0.3})
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "4 runs of the policy tiny, 2 seeds" in page
    assert main(["report", str(folder), "-o", str(tmp_path / "other.html")]) == 0
    sentence = page.partition('id="results"')[2].split("<li>")[2].split("</li>")[0]
    assert sentence.startswith("relax: ")
    assert sentence in (tmp_path / "other.html").read_text()
    (folder / "comparison.json").write_text("{}")
    assert main(["report", str(folder)]) == 2


def test_one_seed_claims_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_finished(tmp_path / "c", "grpo,relax", 1, {"grpo": 0, "relax": 0.3})
    assert main(compare("--methods", "grpo,relax", "--seeds", "1", folder=tmp_path / "c")) == 0
    assert "one seed says nothing about the methods" in capsys.readouterr().out


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(compare("--methods", "grpo", folder=tmp_path)) == 2
    assert "holds no comparison" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_runs_that_saw_other_prompts_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "c"
    pretend_finished(folder, "grpo,relax", 2, {"grpo": 0, "relax": 0})
    RunDirectory(folder / "relax" / "seed1").write_completions(2, [{"problem_id": "another", "completion": ""}])
    assert main(compare("--methods", "grpo,relax", "--seeds", "2", folder=folder)) == 0
    assert "the runs of seed 1 did not see the same prompts in the same order" in capsys.readouterr().out


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_methods_and_two_seeds_survive_a_kill(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    folder = tmp_path / "c"
    words = compare("--methods", "grpo,relax:trainer.learning_rate=1e-3", "--seeds", "2", "--jobs", "2", folder=folder)
    command = [sys.executable, "-m", "relax_rl.cli.main", *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as stopped:
        # Its manifest is what makes a checkpoint whole, and is written last.
        wait_for(lambda: list(folder.glob("*/seed0/checkpoints/checkpoint-1/manifest.json")), 600)
        stopped.kill()
    # The children notice, and end.
    owners = [(run, Owner.of(run)) for run in folder.glob("*/seed0")]
    wait_for(lambda: not any(owner is not None and owner.is_alive(run) for run, owner in owners))
    begun = [run for run in folder.glob("*/seed0") if RunDirectory(run).latest_checkpoint() is not None]
    kept = {run: (run / "evaluations" / "before.json").stat().st_mtime_ns for run in begun}
    assert kept
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    # What had a checkpoint went on from there, and was not measured again at its start.
    assert kept == {run: (run / "evaluations" / "before.json").stat().st_mtime_ns for run in begun}
    for method in ("grpo", "relax-trainer.learning_rate=1e-3"):
        for seed in (0, 1):
            run = RunDirectory.open(folder / method / f"seed{seed}")
            assert [row["step"] for row in run.read_metrics()] == [1, 2]
    assert "note:" not in done.stdout  # the same start, the same prompts in the same order
    assert "relax:trainer.learning_rate=1e-3: " in done.stdout
    starts = {path.read_text() for path in folder.glob("*/*/evaluations/before.json")}
    assert len(starts) == 1
    contents = json.loads((folder / "comparison.json").read_text())
    assert contents["seeds"] == [0, 1]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert "4 of 4 runs were finished before" in again.stderr
    assert again.stdout == done.stdout
