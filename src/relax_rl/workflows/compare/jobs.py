"""Training runs started from one command: each a process of its own, some at once, one display over all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory, write_whole
from relax_rl.workflows.compare.plan import PlannedRun

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Failure", "Job", "job_of", "run_jobs"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One run: a `relax train` of its own.

    Attributes:
        label: for people.
        words: what follows `relax`.
        run: where it trains.
        num_steps: updates in all.
        log: receives its output; overwritten.
    """

    label: str
    words: tuple[str, ...]
    run: RunDirectory
    num_steps: int
    log: Path

    def steps_done(self) -> int:
        """Read from the run's metrics; 0 until it has some."""
        rows = self.run.read_metrics() if self.run.is_run() else []
        return int(rows[-1]["step"]) if rows else 0


def job_of(planned: PlannedRun, folder: Path, *, anew: bool = False) -> Job:
    """The training that a planned run still needs: from its checkpoint, or from the start where it has none.

    Args:
        folder: receives the run's settings and its log, under ``configs`` and ``logs``.
        anew: from the start in any case.

    Raises:
        RunError: the run's folder holds something else.
    """
    directory = planned.directory
    config = folder / "configs" / f"{directory.path.parent.name}-{directory.path.name}.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    write_whole(config, planned.config.to_json())
    goes_on = not anew and directory.is_run() and directory.latest_checkpoint() is not None
    if not goes_on:
        _clear_unstarted(directory.path)
    return Job(
        label=planned.label,
        words=("train", str(config), "--resume" if goes_on else "--overwrite"),
        run=directory,
        num_steps=planned.config.trainer.max_steps,
        log=folder / "logs" / f"{config.stem}.log",
    )


def _clear_unstarted(path: Path) -> None:
    """Remove a run directory that was made but not begun: empty folders, and a config that was being written."""
    if path.is_dir() and not (path / "config.json").exists():
        kept = [file for file in path.rglob("*") if not file.is_dir() and not file.name.startswith(".config.json.")]
        if kept:
            raise RunError(f"{path} is not empty and not a run; remove it, or choose another folder with --run DIR")
        shutil.rmtree(path)


@dataclass(frozen=True)
class Failure:
    """A job that ended with an error, and its last words."""

    job: Job
    sentence: str


def run_jobs(jobs: Sequence[Job], num_at_once: int, *, stop_at_failure: bool = False) -> list[Failure]:
    """Run the jobs to their end, in order, with one line of progress for each that is running and one for all.

    Each is a process with one thread, unless OMP_NUM_THREADS says otherwise, and ends when this one does.

    Args:
        num_at_once: how many run side by side.
        stop_at_failure: stop them all as soon as one fails.

    Returns:
        The jobs that failed.
    """
    waiting = list(jobs)[::-1]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failures: list[Failure] = []
    display = _Display(jobs)
    with display.progress:
        try:
            while waiting or running:
                while waiting and len(running) < num_at_once:
                    job = waiting.pop()
                    running[job] = _start(job)
                    display.started(job)
                time.sleep(_POLL_SECONDS)
                for job, code in [(job, process.poll()) for job, process in running.items()]:
                    display.went_on(job)
                    if code is not None:
                        _end(running.pop(job))
                        failures += [Failure(job, _last_line(job.log, code))] if code else []
                        display.ended(job, failures[-1].sentence if code else None)
                if failures and stop_at_failure:
                    return failures
        finally:
            for process in running.values():
                _end(process)
    return failures


def _start(job: Job) -> subprocess.Popen[bytes]:
    # A small policy loses more by a second thread than it gains; other cores go to other runs.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log:
        command = [sys.executable, "-m", "relax_rl.cli.child", *job.words]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    said = lines[-1].removeprefix("relax: error: ") if lines else "it wrote nothing"
    return f"{said} (signal {-code})" if code < 0 else said


class _Display:
    """One line for all jobs and one for each that is running; where there is no terminal, a line when one ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        # Without a terminal rich would write the bars once more at the end.
        self.progress: Progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._jobs = jobs
        self._bars: dict[Job, TaskID] = {}
        self._steps = {job: job.steps_done() for job in jobs}
        self._num_ended = 0
        self._started: dict[Job, float] = {}
        self._all = self.progress.add_task(f"{len(jobs)} runs", total=sum(job.num_steps for job in jobs))

    def started(self, job: Job) -> None:
        self._started[job] = time.monotonic()
        self._bars[job] = self.progress.add_task(job.label, total=job.num_steps)

    def went_on(self, job: Job) -> None:
        self._steps[job] = job.steps_done()
        self.progress.update(self._bars[job], completed=self._steps[job])
        self.progress.update(self._all, completed=sum(self._steps.values()))

    def ended(self, job: Job, sentence: str | None) -> None:
        self._num_ended += 1
        self.progress.remove_task(self._bars.pop(job))
        seconds = time.monotonic() - self._started[job]
        outcome = f"done in {seconds:.0f} s" if sentence is None else f"FAILED: {sentence} (all of it in {job.log})"
        print(f"[{self._num_ended}/{len(self._jobs)}] {job.label}: {outcome}", file=sys.stderr)
