"""GRPO and ReLaX from the same start, side by side, with one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.errors import ConfigError, RelaxError
from relax_rl.runs import RunDirectory
from relax_rl.stopping import Stopped
from relax_rl.workflows.compare.jobs import job_of, run_jobs
from relax_rl.workflows.compare.plan import PlannedRun, parse_methods, plan_runs
from relax_rl.workflows.compare.rehearsal import rehearse
from relax_rl.workflows.progress import OnProgress

if TYPE_CHECKING:
    from relax_rl.evaluation.result import EvaluationResult

__all__ = ["DemoResult", "PlannedDemo", "prepare_demo"]

_KEEPS_MEMORY = (("MALLOC_MMAP_THRESHOLD_", str(2**30)), ("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1)))
"""For glibc: keep what is freed. Otherwise every large tensor goes back to the system and the next one comes page by
page, 6 % of the processor time of an update. A run has a fifth more memory in exchange."""
METHODS = {"grpo": "GRPO", "relax": "ReLaX"}


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo: the evaluation before training (None where it was left out), those after by method, and the
    page
    (None where it cannot be drawn)."""

    before: EvaluationResult | None
    after: Mapping[str, EvaluationResult]
    page: Path | None


@dataclass(frozen=True)
class PlannedDemo:
    """Two runs that can start."""

    folder: Path
    runs: tuple[PlannedRun, ...]
    resume: bool = False

    def run(self, on_progress: OnProgress | None = None) -> DemoResult:
        """Train side by side, and write the page.

        Raises:
            RelaxError: as soon as a run fails.
            Stopped: a stop was asked for (`relax_rl.stopping`); `resume` continues.
        """
        from relax_rl.evaluation.result import EvaluationResult
        from relax_rl.workflows.pages import page_if_possible

        owed = [planned for planned in self.runs if not (self.resume and planned.is_finished())]
        jobs = [
            replace(job_of(planned, self.folder, overwrite=not self.resume), environment=_KEEPS_MEMORY)
            for planned in owed
        ]
        try:
            failures = run_jobs(jobs, len(jobs), stop_at_failure=True, on_progress=on_progress)
        except Stopped as stopped:
            begun = sum(planned.has_checkpoint for planned in self.runs)
            stopped.kept, stopped.flag = f"{begun} of {len(self.runs)} runs have a checkpoint", "--resume"
            raise
        for failure in failures:
            job = failure.job
            raise RelaxError(f"The run of {job.label} failed: {failure.sentence} (all of it in {job.log})")
        directories = [planned.directory for planned in self.runs]
        _share_start(directories)
        page = page_if_possible([run.path for run in directories], self.folder / "report.html")
        before = directories[0].evaluations / "before.json"
        return DemoResult(
            before=EvaluationResult.load(before) if directories[0].is_evaluated("before") else None,
            after={
                METHODS[run.path.parent.name]: EvaluationResult.load(run.evaluations / "after.json")
                for run in directories
            },
            page=page,
        )


def prepare_demo(
    steps: int = 50,
    seed: int = 0,
    *,
    overrides: Sequence[str] = (),
    output: str | Path = "runs/demo",
    resume: bool = False,
    overwrite: bool = False,
) -> PlannedDemo:
    """Plan and rehearse both runs, and write nothing.

    Args:
        steps: updates of each.
        seed: seed of both runs.
        overrides: settings for both.
        output: folder.
        resume: continue the runs in it, which were started with the same settings.
        overwrite: replace the runs in it.

    Raises:
        RelaxError: anything that the runs would refuse.
    """
    if steps < 1:
        raise ConfigError(f"--steps is {steps}; give a number of updates of at least 1.")
    folder = Path(output)
    words = [f"--trainer.max_steps={steps}", *overrides]
    runs = _measured_once(plan_runs("countdown", words, parse_methods(list(METHODS)), [seed], folder))
    if resume and overwrite:
        raise ConfigError("--resume continues a demo and --overwrite deletes it; give one of them")
    for planned in runs:
        if resume:
            planned.check_kept()
        else:
            RunDirectory.new(planned.config.output_path, overwrite=overwrite)
    rehearse(runs, runs, overwrite=not resume)
    return PlannedDemo(folder, tuple(runs), resume)


def _measured_once(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs, of which the first alone evaluates the policy before training.

    They start at once from the same policy, so that none could read what another has measured. GRPO has no reference
    policy and finishes sooner in any case.
    """
    only_after = [planned.config.evaluation.model_copy(update={"before": False}) for planned in runs[1:]]
    return [runs[0]] + [
        replace(planned, config=planned.config.model_copy(update={"evaluation": evaluation}))
        for planned, evaluation in zip(runs[1:], only_after, strict=True)
    ]


def _share_start(runs: Sequence[RunDirectory]) -> None:
    """Give every run the evaluation before training of the first, as if each had measured it."""
    if runs[0].is_evaluated("before"):
        before = runs[0].read_evaluations()["before"]
        for run in runs[1:]:
            run.write_evaluation("before", before)
