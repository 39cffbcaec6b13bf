"""Training runs started from one command: each a process of its own, some at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relax_rl.config.code import code_modules
from relax_rl.remote_code import is_trusted
from relax_rl.runs import RunDirectory, write_whole
from relax_rl.stopping import deferred
from relax_rl.workflows.compare.plan import PlannedRun
from relax_rl.workflows.progress import OnProgress, Progress, Stage, silent

__all__ = ["Failure", "Job", "job_of", "run_jobs"]

_POLL_SECONDS = 0.5
_ASKED = (128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes of a child that was asked to stop; the second, before it was ready to be asked."""


@dataclass(frozen=True)
class Job:
    """One run: a `relax train` of its own.

    Attributes:
        label: for people.
        words: arguments of `relax`.
        run: directory of the run.
        num_steps: updates in all.
        log: receives its output; overwritten.
        environment: variables of its process, by name; one that is set already stays as it is.
    """

    label: str
    words: tuple[str, ...]
    run: RunDirectory
    num_steps: int
    log: Path
    environment: tuple[tuple[str, str], ...] = ()

    def steps_done(self) -> int:
        """Read from the run's metrics; 0 until it has some."""
        return self.run.last_step()

    def progress(self, stage: Stage, message: str = "") -> Progress:
        """How far it is now."""
        return Progress(stage, self.steps_done(), self.num_steps, message, self.label)


def job_of(planned: PlannedRun, folder: Path, *, overwrite: bool = False, other_versions: bool = False) -> Job:
    """The training that a planned run still needs: from its checkpoint, or from the start where it has none.

    Args:
        folder: receives the run's settings and its log, under ``configs`` and ``logs``.
        overwrite: start from the beginning in any case.
        other_versions: its checkpoint may be one that other versions of packages wrote.

    Raises:
        RunError: the run's folder holds something else.
    """
    directory = planned.directory
    config = folder / "configs" / f"{directory.path.parent.name}-{directory.path.name}.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    write_whole(config, planned.config.to_json())
    goes_on = planned.has_checkpoint and not overwrite
    if not goes_on:
        # What a killed process left before it wrote its settings will do; anything else is refused.
        RunDirectory.new(directory.path, overwrite=True)
    # The user named this code or allowed it; the run reads it from a file, and must be told.
    allowed = [f"--allow-code={module}" for module in code_modules(planned.config)]
    allowed += ["--trust-remote-code"] if is_trusted() else []
    allowed += ["--other-versions"] if goes_on and other_versions else []
    shared = [f"--share-before={folder / 'before'}"] if planned.config.evaluation.enabled else []
    return Job(
        label=planned.label,
        words=("train", str(config), *shared, "--resume" if goes_on else "--overwrite", *allowed),
        run=directory,
        num_steps=planned.config.trainer.max_steps,
        log=folder / "logs" / f"{config.stem}.log",
    )


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

    Each is a process with one thread, unless OMP_NUM_THREADS says otherwise, and ends when this one does. When a stop
    is asked for (`relax_rl.stopping`), those that run are asked in turn and waited for: they keep what they have done.

    Args:
        num_at_once: how many run side by side.
        stop_at_failure: stop them all as soon as one fails.
        on_progress: receives, of each job, its start, its updates twice a second, and its end with its time or error.

    Returns:
        The jobs that failed.

    Raises:
        Stopped: a stop was asked for.
    """
    tell = on_progress or silent
    waiting, running = list(jobs)[::-1], _Running(tell)
    try:
        with deferred() as request:
            while (waiting and request.reason is None) or running:
                while waiting and len(running) < num_at_once and request.reason is None:
                    running.start(waiting.pop())
                time.sleep(_POLL_SECONDS)
                if request.reason is not None:
                    running.ask()
                running.look()
                if running.failures and stop_at_failure:
                    break
    finally:
        running.kill()
    return running.failures


class _Running:
    """The jobs that run at the moment, and what became of the others."""

    def __init__(self, tell: OnProgress) -> None:
        self.failures: list[Failure] = []
        self._tell = tell
        self._processes: dict[Job, subprocess.Popen[bytes]] = {}
        self._started: dict[Job, float] = {}
        self._asked = False

    def __len__(self) -> int:
        return len(self._processes)

    def start(self, job: Job) -> None:
        self._tell(job.progress("started", message=f"log in {job.log}"))
        self._processes[job], self._started[job] = _start(job), time.monotonic()

    def ask(self) -> None:
        """Ask all to stop, once: a second signal would stop them at once."""
        if not self._asked:
            self._asked = True
            for process in self._processes.values():
                process.terminate()

    def look(self) -> None:
        """Tell how far each is, and let go of those that have ended."""
        for job, code in [(job, process.poll()) for job, process in self._processes.items()]:
            self._tell(job.progress("training"))
            if code is None:
                continue
            _close(self._processes.pop(job))
            if code == 0:
                self._tell(job.progress("ended", message=f"done in {time.monotonic() - self._started[job]:.0f} s"))
            elif self._asked and code in _ASKED:
                self._tell(job.progress("ended", message="stopped"))
            else:
                self.failures.append(Failure(job, _last_line(job.log, code)))
                words = f"{self.failures[-1].sentence} (all of it in {job.log})"
                self._tell(job.progress("failed", message=words))

    def kill(self) -> None:
        """End those that are left, at once."""
        for process in self._processes.values():
            process.kill()
            _close(process)


def _start(job: Job) -> subprocess.Popen[bytes]:
    # A small policy loses more by a second thread than it gains; other cores go to other runs.
    environment = {"OMP_NUM_THREADS": "1", **dict(job.environment), **os.environ}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log:
        # -P: a file in the current folder must not take the place of a module of this or another package.
        command = [sys.executable, "-P", "-m", "relax_rl.cli.child", *job.words]
        # A group of its own: Ctrl-C goes to all of the terminal's group, and this process asks a child once.
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0
        )


def _close(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    said = lines[-1].removeprefix("relax: error: ") if lines else "it wrote nothing"
    return f"{said} (signal {-code})" if code < 0 else said
