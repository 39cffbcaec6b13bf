"""Runs started from one command: each a process of its own, which ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory
from relax_rl.stopping import Stopped, StopRequest, handling_signals
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


def test_a_job_s_variables_reach_its_process_unless_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []

    def refuse(*_: object, env: dict[str, str], **__: object) -> None:
        given.append(env)
        raise OSError("not started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setenv("ALREADY", "mine")
    wanted = replace(job(tmp_path, "any", "--version"), environment=(("ALREADY", "theirs"), ("NEW", "here")))
    with pytest.raises(OSError, match="not started"):
        run_jobs([wanted], 1)
    assert (given[0]["ALREADY"], given[0]["NEW"]) == ("mine", "here")


@pytest.fixture
def waits_for_ever(tmp_path: Path) -> Iterator[tuple[tuple[str, ...], socket.socket]]:
    """The words of a command that never ends, for its server never answers, and that server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(280)  # a busy machine may take most of the test's own time limit
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        words = (
            "eval",
            "any",
            "--backend",
            "server",
            "--base-url",
            address,
            "--task",
            "countdown",
            "-n",
            "1",
            "-k",
            "1",
        )
        yield (*words, "-o", str(tmp_path / "evaluation")), server


@pytest.mark.slow
def test_children_end_with_a_parent_that_is_killed(
    tmp_path: Path, waits_for_ever: tuple[tuple[str, ...], socket.socket]
) -> None:
    words, server = waits_for_ever
    code = (
        "from pathlib import Path; from relax_rl.workflows.compare.jobs import *; "
        "from relax_rl.runs import RunDirectory; "
        f"p = Path({str(tmp_path)!r}); run_jobs([Job('waits', {words!r}, RunDirectory(p / 'r'), 1, p / 'log')], 1)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("the children of a process are read from /proc")
    (child,) = wait_for(lambda: children.read_text().split())
    server.accept()  # now it waits
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    state = Path(f"/proc/{child}/stat")
    assert wait_for(lambda: not state.exists() or "Z" in state.read_text().split()[2])


@pytest.mark.slow
def test_children_are_asked_to_stop_and_waited_for(
    tmp_path: Path, waits_for_ever: tuple[tuple[str, ...], socket.socket]
) -> None:
    words, server = waits_for_ever
    waiting, never = job(tmp_path, "waits", *words), job(tmp_path, "never", "--version")
    events: list[Progress] = []

    def follow(progress: Progress) -> None:
        events.append(progress)
        if progress.stage == "training" and len(events) == 2:
            server.accept()  # now it waits
            request.ask()

    with StopRequest() as request, pytest.raises(Stopped):
        run_jobs([waiting, never], 1, on_progress=follow)
    told = [(event.stage, event.message) for event in events if event.stage != "training"]
    assert told == [("started", f"log in {waiting.log}"), ("ended", "stopped")]
    assert "relax: stopped by SIGTERM; the samples so far are kept in " in waiting.log.read_text()


def test_a_second_signal_ends_children_at_once(tmp_path: Path) -> None:
    deaf = job(tmp_path, "deaf")
    code = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    processes: list[subprocess.Popen[bytes]] = []

    def start(_: Job) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        assert processes[0].stdout is not None
        processes[0].stdout.readline()
        return processes[0]

    def follow(progress: Progress) -> None:
        if progress.stage == "training":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("relax_rl.workflows.compare.jobs._start", start)
        with pytest.raises(Stopped), handling_signals():
            run_jobs([deaf], 1, on_progress=follow)
    assert processes[0].poll() == -signal.SIGKILL


def test_a_run_that_is_something_else_is_not_removed(tmp_path: Path) -> None:
    (planned,) = plan_runs("countdown", SMALL, parse_methods("grpo"), [0], tmp_path)
    (planned.config.output_path / "checkpoints").mkdir(parents=True)
    job_of(planned, tmp_path)  # made and never begun: `relax train` starts in it
    (planned.config.output_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a run"):
        job_of(planned, tmp_path)
