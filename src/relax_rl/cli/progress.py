"""How far a run is, and how far several are, on a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from relax_rl.workflows.compare.plan import PlannedRun
from relax_rl.workflows.progress import Progress

__all__ = ["JobBars", "TrainingBar", "figures"]

_SHOWN = (
    ("reward", "reward", ".3f"),
    ("entropy", "entropy", ".3f"),
    ("latent/dsd", "dsd", ".3g"),
    ("completions/mean_length", "length", ".0f"),
)

_LINES = 20
_NUM_LINES = 5
_FEWEST_LINES = 10
"""A run of fewer updates than this is told of at its start and end alone."""


def figures(metrics: Mapping[str, Any]) -> str:
    """Reward, entropy, dispersion and length in words; those that are missing or not finite are left out."""
    known = [(name, metrics.get(key), form) for key, name, form in _SHOWN]
    return "  ".join(
        f"{name} {value:{form}}" for name, value, form in known if value is not None and math.isfinite(value)
    )


class TrainingBar:
    """One line with figures and the time that is left, while a run trains; off a terminal, at most twenty lines."""

    def __init__(self, label: str, console: Console | None = None) -> None:
        self._label = label
        self._console = console or Console(file=sys.stderr)
        self._bars: Bars | None = None
        self._printed = -1

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "notice":
            # Above the bar, where there is one.
            _warn(self._console if self._bars is None else self._bars.console, progress.message)
            return
        if progress.stage == "evaluated":
            console = self._console if self._bars is None else self._bars.console
            console.print(progress.message, markup=False, highlight=False, soft_wrap=True)
            return
        if progress.stage != "training":
            self._stop()
            return
        if not self._console.is_terminal:
            self._tell(progress)
            return
        if self._bars is None:
            self._start(progress)
        if self._bars is not None and progress.metrics:
            self._bars.update(self._task, completed=progress.done, figures=figures(progress.metrics))

    def _tell(self, progress: Progress) -> None:
        """For a log: the first update, the last, and a line for each twentieth of them."""
        part = _LINES * progress.done // progress.total
        if not progress.metrics or (part <= self._printed and progress.done < progress.total):
            return
        self._printed = part
        line = f"{self._label}: update {progress.done} of {progress.total}  {figures(progress.metrics)}"
        self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    def _start(self, progress: Progress) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bars.start()
        self._task = self._bars.add_task(self._label, total=progress.total, completed=progress.done, figures="")

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class JobBars:
    """One line for all runs and one for each that is running; off a terminal, a line for each fifth of a run."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        # Without a terminal rich would write the bars once more at the end.
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal)
        self._num_runs = len(runs)
        self._steps = {run.label: run.directory.last_step() for run in runs}
        self._tasks: dict[str, Any] = {}
        self._totals: dict[str, int] = {}
        self._num_ended = 0
        self._all = self._bars.add_task(f"{len(runs)} runs", total=sum(run.config.trainer.max_steps for run in runs))

    def __enter__(self) -> JobBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        run = progress.run
        if progress.stage == "notice":
            _warn(self._bars.console, progress.message)
        elif progress.stage == "started":
            self._tasks[run] = self._bars.add_task(run, total=progress.total)
            self._totals[run] = progress.total
        elif progress.stage == "training":
            self._tell(run, self._steps.get(run, 0), progress.done, self._totals[run])
            self._steps[run] = progress.done
            self._bars.update(self._tasks[run], completed=progress.done)
            self._bars.update(self._all, completed=sum(self._steps.values()))
        else:
            self._num_ended += 1
            self._bars.remove_task(self._tasks.pop(run))
            outcome = progress.message if progress.stage == "ended" else f"FAILED: {progress.message}"
            print(f"[{self._num_ended}/{self._num_runs}] {run}: {outcome}", file=sys.stderr)

    def _tell(self, run: str, before: int, done: int, total: int) -> None:
        """Off a terminal, where no bar is drawn: a line for each fifth of the updates, so that a log shows life."""
        if self._bars.console.is_terminal or total < _FEWEST_LINES:
            return
        if done < total and _NUM_LINES * done // total > _NUM_LINES * before // total:
            print(f"{run}: {done} of {total} updates", file=sys.stderr)


def _warn(console: Console, sentence: str) -> None:
    # Plain: a sentence may hold what rich would take for markup.
    console.print(f"relax: warning: {sentence}", markup=False, highlight=False, soft_wrap=True)
