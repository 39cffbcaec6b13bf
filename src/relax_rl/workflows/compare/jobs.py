"""Training runs started from one command: each a process of its own, some at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relax_rl.config.code import code_modules
from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory, write_whole
from relax_rl.workflows.compare.plan import PlannedRun
from relax_rl.workflows.progress import OnProgress, Progress, Stage, silent

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
        return self.run.last_step()

    def progress(self, stage: Stage, message: str = "") -> Progress:
        """How far it is now."""
        return Progress(stage, self.steps_done(), self.num_steps, message, self.label)


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
    goes_on = planned.has_checkpoint and not anew
    if not goes_on:
        _clear_unstarted(directory.path)
    # The user named this code or allowed it; the run reads it from a file, and must be told.
    allowed = [f"--allow-code={module}" for module in code_modules(planned.config)]
    return Job(
        label=planned.label,
        words=("train", str(config), "--resume" if goes_on else "--overwrite", *allowed),
        run=directory,
        num_steps=planned.config.trainer.max_steps,
        log=folder / "logs" / f"{config.stem}.log",
    )


def _clear_unstarted(path: Path) -> None:
    """Remove a run directory that was made but not begun: empty folders, and a config that was being written."""
    if path.is_dir() and not (path / "config.json").exists():
        kept = [file for file in path.rglob("*") if not file.is_dir() and not file.name.startswith(".config.json.")]
        if kept:
            raise RunError(f"{path} is not empty and not a run; remove it, or choose another folder with --output DIR")
        shutil.rmtree(path)


@dataclass(frozen=True)
class Failure:
    """A job that ended with an error, and its last words."""

    job: Job
    sentence: str


def run_jobs(
    jobs: Sequence[Job],
    num_at_once: int,
    *,
    stop_at_failure: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Failure]:
    """Run the jobs to their end, in order.

    Each is a process with one thread, unless OMP_NUM_THREADS says otherwise, and ends when this one does.

    Args:
        num_at_once: how many run side by side.
        stop_at_failure: stop them all as soon as one fails.
        on_progress: receives, of each job, its start, its updates twice a second, and its end with its time or error.

    Returns:
        The jobs that failed.
    """
    tell = on_progress or silent
    waiting = list(jobs)[::-1]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    started: dict[Job, float] = {}
    failures: list[Failure] = []
    try:
        while waiting or running:
            while waiting and len(running) < num_at_once:
                job = waiting.pop()
                tell(job.progress("started", message=f"log in {job.log}"))
                running[job], started[job] = _start(job), time.monotonic()
            time.sleep(_POLL_SECONDS)
            for job, code in [(job, process.poll()) for job, process in running.items()]:
                tell(job.progress("training"))
                if code is not None:
                    _end(running.pop(job))
                if code == 0:
                    tell(job.progress("ended", message=f"done in {time.monotonic() - started[job]:.0f} s"))
                elif code is not None:
                    failures.append(Failure(job, _last_line(job.log, code)))
                    tell(job.progress("failed", message=f"{failures[-1].sentence} (all of it in {job.log})"))
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
        # -P: a file in the current folder must not take the place of a module of this or another package.
        command = [sys.executable, "-P", "-m", "relax_rl.cli.child", *job.words]
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
