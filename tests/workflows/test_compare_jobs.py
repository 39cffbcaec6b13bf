"""Runs started from one command: each a process of its own, which ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory
from relax_rl.workflows.compare.jobs import Job, job_of, run_jobs
from relax_rl.workflows.compare.plan import parse_methods, plan_runs
from relax_rl.workflows.progress import Progress
from support.comparisons import SMALL, wait_for


def job(folder: Path, label: str, *words: str) -> Job:
    return Job(label, words, RunDirectory(folder / label), 1, folder / f"{label}.log")


def test_a_failed_job_is_told_and_the_others_run(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "bad", "tasks", "show", "nothing"), job(tmp_path, "good", "--version")]
    events: list[Progress] = []
    (failure,) = run_jobs(jobs, 1, on_progress=events.append)
    assert failure.job.label == "bad"
    assert "nothing" in failure.sentence
    assert (tmp_path / "good.log").read_text().startswith("relax-rl ")
    told = [(event.stage, event.run) for event in events if event.stage != "training"]
    assert told == [("started", "bad"), ("failed", "bad"), ("started", "good"), ("ended", "good")]
    (last_words,) = [event.message for event in events if event.stage == "failed"]
    assert last_words == f"{failure.sentence} (all of it in {tmp_path / 'bad.log'})"
    assert [f.job.label for f in run_jobs(jobs, 2, stop_at_failure=True)] == ["bad"]


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # a command that waits for ever: it reads a config that nobody writes
    (tmp_path / "wait.toml").symlink_to(tmp_path / "fifo")
    code = (
        "from pathlib import Path; from relax_rl.workflows.compare.jobs import *; "
        "from relax_rl.runs import RunDirectory; "
        f"p = Path({str(tmp_path)!r}); "
        "run_jobs([Job('waits', ('train', str(p / 'wait.toml')), RunDirectory(p / 'r'), 1, p / 'log')], 1)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("the children of a process are read from /proc")
    (child,) = wait_for(lambda: children.read_text().split())
    # The fifo has a reader once the child waits.
    wait_for(lambda: str(tmp_path) in Path(f"/proc/{child}/cmdline").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


def test_a_run_that_is_something_else_is_not_removed(tmp_path: Path) -> None:
    (planned,) = plan_runs("countdown", SMALL, parse_methods("grpo"), [0], tmp_path)
    (planned.config.output_path / "checkpoints").mkdir(parents=True)
    job_of(planned, tmp_path)  # made and never begun: cleared away
    assert not planned.config.output_path.exists()
    planned.config.output_path.mkdir(parents=True)
    (planned.config.output_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a run"):
        job_of(planned, tmp_path)
