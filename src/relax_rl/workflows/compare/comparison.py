"""A comparison from its words to its verdict: planned and rehearsed, then run."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.comparison.contents import Contents
from relax_rl.config import BatchPlan, TrainConfig
from relax_rl.config.messages import did_you_mean
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs.lock import FolderLock
from relax_rl.stopping import Stopped
from relax_rl.workflows.compare.jobs import Failure, job_of, run_jobs
from relax_rl.workflows.compare.plan import Method, PlannedRun, parse_methods, parse_seeds, plan_runs
from relax_rl.workflows.compare.rehearsal import check_folder, check_metrics, rehearse
from relax_rl.workflows.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from relax_rl.comparison.methods import Comparison

__all__ = ["ComparisonResult", "PlannedComparison", "compare", "prepare_comparison"]

Methods = str | Path | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""Words such as ``relax:alpha=0.3``, a TOML file with a table for each, or what such a file holds."""


@dataclass(frozen=True)
class ComparisonResult:
    """Result of a comparison.

    Attributes:
        output: its folder.
        verdict: means, differences and a sentence for each method; None while no run of the baseline is evaluated.
        data: CSV files of methods, runs and problems.
        page: the report.
        num_trained: runs that were trained, those that failed left out.
        failures: runs that failed; the same call tries them again.
    """

    output: Path
    verdict: Comparison | None
    data: tuple[Path, ...]
    page: Path | None
    num_trained: int
    failures: tuple[Failure, ...]

    def raise_failures(self) -> None:
        """Raises ``RunError`` naming the runs that failed, with their last words."""
        failures = self.failures
        if failures:
            sentences = "; ".join(
                f"{failure.job.label}: {failure.sentence} ({failure.job.log})" for failure in failures
            )
            raise RunError(
                f"{len(failures)} run{'s' * (len(failures) > 1)} failed, and the same command tries again: {sentences}"
            )


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison that can start: everything is checked, and nothing is written yet.

    Attributes:
        folder: receives the runs, the data and the page.
        methods, seeds: each method is trained with each seed.
        baseline: label of the method that the others are compared with.
        metrics: to test; None for mean@1 and the largest pass@k.
        frontier: labels of the methods that trace the frontier; empty without one.
        runs: all of them, every method of a seed before the next seed.
        owed: those still to be trained.
        batches: rollout batches of each run.
        overwrite: existing runs are replaced.
        other_versions: a run goes on from a checkpoint that other versions of packages wrote.
        jobs: runs at once.
        notices: notices before it trains, in sentences.
    """

    folder: Path
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    baseline: str
    metrics: tuple[str, ...] | None
    runs: tuple[PlannedRun, ...]
    owed: tuple[PlannedRun, ...]
    batches: BatchPlan
    overwrite: bool
    other_versions: bool
    jobs: int
    notices: tuple[str, ...] = ()
    frontier: tuple[str, ...] = ()

    @property
    def num_begun(self) -> int:
        """Owed runs whose folder holds a run."""
        return sum(planned.directory.is_run() for planned in self.owed)

    def run(self, on_progress: OnProgress | None = None) -> ComparisonResult:
        """Train what is owed, compare what was evaluated, write the data and the page.

        Args:
            on_progress: receives notices, then the start, the updates and the end of each run.

        Raises:
            RunError: the folder cannot be written, or another comparison is at work in it.
            Stopped: a stop was asked for (`relax_rl.stopping`); each run that was begun has a checkpoint.
        """
        try:
            return self._run(on_progress)
        except Stopped as stopped:
            finished = sum(planned.is_finished() for planned in self.runs)
            begun = sum(planned.has_checkpoint and not planned.is_finished() for planned in self.runs)
            stopped.kept = f"{finished} of {len(self.runs)} runs are finished and {begun} have a checkpoint"
            stopped.flag = ""
            raise

    def _run(self, on_progress: OnProgress | None) -> ComparisonResult:
        tell = on_progress or silent
        with FolderLock(self.folder, "comparison").held() as gone:
            if gone is not None:
                taken = f"the comparison was taken over from {gone}, which gives no sign of life"
                tell(Progress("notice", message=taken))
            for notice in self.notices:
                tell(Progress("notice", message=notice))
            if self.overwrite:
                # All at once, so that a comparison that is stopped can be continued without deleting again.
                for planned in self.owed:
                    if planned.directory.is_run():
                        shutil.rmtree(planned.directory.path)
            folders = {method.label: method.folder for method in self.methods}
            Contents(self.baseline, folders, self.seeds, self.metrics, self.frontier).write(self.folder)
            flags = {"overwrite": self.overwrite, "other_versions": self.other_versions}
            todo = [job_of(planned, self.folder, **flags) for planned in self.owed]
            failures = run_jobs(todo, self.jobs, on_progress=on_progress)
            return _compared(self.folder, len(todo) - len(failures), tuple(failures))


def compare(
    config: str | Path | TrainConfig | Mapping[str, Any] | None = None,
    methods: Methods = ("grpo", "relax"),
    seeds: int | str | Sequence[int] = 3,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    output: str | Path = "runs/compare",
    jobs: int = 1,
    overwrite: bool = False,
    unverified: bool = False,
    allow_code: Collection[str] = (),
    other_versions: bool = False,
    match_step: bool = False,
    frontier: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> ComparisonResult:
    """Train several methods with several seeds, from one config, and say which is better and how sure that is.

    Each run is a process of its own. The same call continues a comparison that was stopped: finished runs are kept.

    Args:
        config: settings that all runs share, as for `load_config`.
        methods: the contenders.
        seeds: how many, or which.
        overrides: on top of the config, for all runs.
        baseline: label of the method that the others are compared with; the first when None.
        metrics: to test, such as ``["mean@1", "pass@16"]``; mean@1 and the largest pass@k when None.
        output: folder of the comparison.
        jobs: runs at once.
        overwrite: replace the runs that are in the folder and named here.
        unverified: also compare methods whose formula was not read at its source.
        allow_code: modules that a file may name a task, a verifier or an objective of.
        other_versions: continue a run although other versions of packages wrote its checkpoint.
        match_step: scale the advantages of every method to the size of GRPO's (``objective.match_rms``).
        frontier: labels of methods that trace a frontier of the other metrics against mean@1, such as GRPO with a KL of
            several strengths; every other method is tested for lying above it.
        on_progress: receives notices, then the start, the updates and the end of each run. Nothing is printed.

    Raises:
        RelaxError: anything that cannot be run, before anything is written; or ``RunError`` for runs that failed, once
            all others are done and compared.
    """
    planned = prepare_comparison(
        config,
        methods,
        seeds,
        overrides=overrides,
        baseline=baseline,
        metrics=metrics,
        output=output,
        jobs=jobs,
        overwrite=overwrite,
        unverified=unverified,
        allow_code=allow_code,
        other_versions=other_versions,
        match_step=match_step,
        frontier=frontier,
    )
    result = planned.run(on_progress)
    result.raise_failures()
    return result


def prepare_comparison(
    config: str | Path | TrainConfig | Mapping[str, Any] | None,
    methods: Methods,
    seeds: int | str | Sequence[int] = 3,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    output: str | Path = "runs/compare",
    jobs: int = 1,
    overwrite: bool = False,
    unverified: bool = False,
    allow_code: Collection[str] = (),
    other_versions: bool = False,
    match_step: bool = False,
    frontier: Sequence[str] = (),
) -> PlannedComparison:
    """Plan the runs and rehearse each method, and write nothing; for the arguments, see `compare`.

    Raises:
        RelaxError: anything that the runs would refuse, or that cannot be compared.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; give a number of runs at once of at least 1")
    contenders, folder = parse_methods(methods, allow_code), Path(output)
    labels = [method.label for method in contenders]
    baseline = baseline or labels[0]
    if baseline not in labels:
        raise ConfigError(f"--baseline is '{baseline}', which is not one of --methods{did_you_mean(baseline, labels)}")
    _check_frontier(frontier, labels)
    numbers = parse_seeds(seeds)
    runs = plan_runs(config, overrides, contenders, numbers, folder, allow_code, match_step=match_step)
    check_metrics(metrics, runs[0].config)
    check_folder(folder)
    if not overwrite:
        for planned in runs:
            planned.check_kept()
    owed = [planned for planned in runs if overwrite or not planned.is_finished()]
    rehearsal = rehearse(runs, owed, overwrite=overwrite, unverified=unverified, other_versions=other_versions)
    return PlannedComparison(
        folder=folder,
        methods=tuple(contenders),
        seeds=tuple(numbers),
        baseline=baseline,
        metrics=None if metrics is None else tuple(metrics),
        runs=tuple(runs),
        owed=tuple(owed),
        batches=rehearsal.batches,
        overwrite=overwrite,
        other_versions=other_versions,
        jobs=jobs,
        notices=rehearsal.notices,
        frontier=tuple(frontier),
    )


def _check_frontier(frontier: Sequence[str], labels: list[str]) -> None:
    """Raises ``ConfigError`` for a frontier of methods that are not there, or of too few or all of them."""
    for name in frontier:
        if name not in labels:
            raise ConfigError(f"--frontier has '{name}', which is not one of --methods{did_you_mean(name, labels)}")
    if frontier and not 2 <= len(set(frontier)) < len(labels):
        raise ConfigError(
            f"--frontier names {len(set(frontier))} of {len(labels)} methods; it takes two or more to trace one, "
            "such as grpo:beta=0.004,grpo:beta=0.064, and one beside them to test"
        )


def _compared(folder: Path, num_trained: int, failures: tuple[Failure, ...]) -> ComparisonResult:
    """The verdict on what has been evaluated in the folder, the data as CSV, and the page."""
    from relax_rl.comparison.methods import compare_methods
    from relax_rl.comparison.records import read_runs
    from relax_rl.comparison.tables import write_comparison_data
    from relax_rl.workflows.pages import page_if_possible

    contents = Contents.read(folder)
    baseline, metrics, frontier = contents.baseline, contents.metrics, contents.frontier
    paths, methods = contents.evaluated_runs(folder)
    if baseline not in methods:
        return ComparisonResult(folder, None, (), None, num_trained, failures)
    records = read_runs(paths, methods)
    verdict = compare_methods(records, baseline, metrics, frontier)
    data = write_comparison_data(verdict, records, folder)
    page = page_if_possible(paths, folder / "report.html", methods=methods, baseline=baseline, metrics=metrics)
    return ComparisonResult(folder, verdict, tuple(data), page, num_trained, failures)
