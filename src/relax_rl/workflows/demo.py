"""GRPO and ReLaX from the same start, side by side, with one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relax_rl.errors import ConfigError, RelaxError
from relax_rl.runs import RunDirectory
from relax_rl.workflows.compare.jobs import job_of, run_jobs
from relax_rl.workflows.compare.plan import PlannedRun, parse_methods, plan_runs
from relax_rl.workflows.compare.rehearsal import rehearse
from relax_rl.workflows.progress import OnProgress

if TYPE_CHECKING:
    from relax_rl.evaluation.result import EvaluationResult

__all__ = ["DemoResult", "PlannedDemo", "prepare_demo"]

METHODS = {"grpo": "GRPO", "relax": "ReLaX"}


@dataclass(frozen=True)
class DemoResult:
    """What came of it: the evaluation before training (None where it was left out), those after by method, the page."""

    before: EvaluationResult | None
    after: Mapping[str, EvaluationResult]
    page: Path


@dataclass(frozen=True)
class PlannedDemo:
    """Two runs that can start."""

    folder: Path
    runs: tuple[PlannedRun, ...]

    def run(self, on_progress: OnProgress | None = None) -> DemoResult:
        """Train side by side, and write the page. Raises ``RelaxError`` as soon as a run fails."""
        from relax_rl.evaluation.result import EvaluationResult
        from relax_rl.reports.page import write_report

        jobs = [job_of(planned, self.folder, anew=True) for planned in self.runs]
        for failure in run_jobs(jobs, len(jobs), stop_at_failure=True, on_progress=on_progress):
            job = failure.job
            raise RelaxError(f"The run of {job.label} failed: {failure.sentence} (all of it in {job.log})")
        directories = [planned.directory for planned in self.runs]
        page = write_report([run.path for run in directories], self.folder / "report.html")
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
    overwrite: bool = False,
) -> PlannedDemo:
    """Plan and rehearse both runs, and write nothing.

    Args:
        steps: updates of each.
        seed: of both.
        overrides: settings for both.
        output: folder.
        overwrite: replace the runs in it.

    Raises:
        RelaxError: what the runs would refuse.
    """
    if steps < 1:
        raise ConfigError(f"--steps is {steps}; give a number of updates of at least 1.")
    folder = Path(output)
    words = [f"--trainer.max_steps={steps}", *overrides]
    runs = plan_runs("countdown", words, parse_methods(list(METHODS)), [seed], folder)
    for planned in runs:
        RunDirectory.new(planned.config.output_path, overwrite=overwrite)
    rehearse(runs, runs, anew=True)
    return PlannedDemo(folder, tuple(runs))
