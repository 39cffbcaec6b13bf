"""A demo that is stopped, and continued."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.runs import RunDirectory
from relax_rl.stopping import Reason, Stopped
from relax_rl.workflows import demo
from relax_rl.workflows.compare.jobs import Job
from relax_rl.workflows.compare.plan import PlannedRun


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Job]:
    """What would be run; it is stopped."""
    found: list[Job] = []

    def run_jobs(jobs: list[Job], *_: Any, **__: Any) -> None:
        found.extend(jobs)
        raise Stopped(Reason.of_signal(signal.SIGTERM))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_jobs", run_jobs)
    monkeypatch.setattr(demo, "rehearse", lambda *_, **__: None)
    return found


def test_it_goes_on_with_what_the_runs_have(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--steps", "2", "--overwrite", "-o", "d"]) == 143
    assert [job.words[-1] for job in jobs] == ["--overwrite", "--overwrite"]
    assert {name for job in jobs for name, _ in job.environment} == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("0 of 2 runs have a checkpoint; continue with: relax demo --steps 2 -o d --resume")
    jobs.clear()
    monkeypatch.setattr(PlannedRun, "has_checkpoint", property(lambda planned: planned.method == "relax"))
    assert main(["demo", "--steps", "2", "-o", "d", "--resume"]) == 143
    assert [job.words[-1] for job in jobs] == ["--overwrite", "--resume"]
    jobs.clear()
    monkeypatch.setattr(PlannedRun, "is_finished", lambda planned: planned.method == "grpo")
    assert main(["demo", "--steps", "2", "-o", "d", "--resume"]) == 143
    assert [job.label for job in jobs] == ["relax seed 0"]


def test_it_is_resumed_or_replaced(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--resume", "--overwrite"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert jobs == []


def test_one_run_measures_the_start_for_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jobs: list[Job]) -> None:
    measured = {"before": 0.25, "after": 0.5}

    def run_jobs(jobs: list[Job], *_: Any, **__: Any) -> list[Any]:
        for job in jobs:
            config = load_config(job.words[1], {})
            RunDirectory.new(job.run.path, overwrite=True).start(config)
            for name in ["before"] * config.evaluation.before + ["after"]:
                job.run.write_evaluation(name, {"mean": measured[name], "of": job.label})
        return []

    monkeypatch.setattr(demo, "run_jobs", run_jobs)
    monkeypatch.setattr("relax_rl.workflows.pages.page_if_possible", lambda *_: None)
    monkeypatch.setattr("relax_rl.evaluation.result.EvaluationResult.load", lambda path: json.loads(path.read_text()))
    planned = demo.prepare_demo(2, output=tmp_path / "d")
    assert [run.config.evaluation.before for run in planned.runs] == [True, False]
    planned.run()
    first, second = (run.directory.read_evaluations() for run in planned.runs)
    assert (first["before"], second["before"]) == ({"mean": 0.25, "of": "grpo seed 0"},) * 2
    assert second["after"]["of"] == "relax seed 0"
    assert [
        run.config.evaluation.before for run in demo.prepare_demo(2, overrides=["--evaluation.before=false"]).runs
    ] == [
        False,
        False,
    ]
