"""A demo that is stopped, and continued."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
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
