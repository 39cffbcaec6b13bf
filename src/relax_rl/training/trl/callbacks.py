"""What happens beside the loop: metrics on disk, and progress on the screen."""

from __future__ import annotations

import math
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from relax_rl.runs import RunDirectory

__all__ = ["MetricsFile", "ProgressBar"]


class MetricsFile(TrainerCallback):
    """Appends what the trainer logs to the run's ``metrics.jsonl``."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # The summary that the trainer logs at the end repeats the last step; it holds no figure of a step.
        if logs and state.is_world_process_zero and "train_runtime" not in logs:
            self._run.append_metrics(state.global_step, logs)


class ProgressBar(TrainerCallback):
    """One line with reward, entropy, dispersion, length and the time that is left; nothing when not on a terminal."""

    _SHOWN = (
        ("reward", "reward", ".3f"),
        ("entropy", "entropy", ".3f"),
        ("latent/dsd", "dsd", ".3g"),
        ("completions/mean_length", "length", ".0f"),
    )

    def __init__(self, label: str, console: Console | None = None) -> None:
        self._label = label
        self._console = console or Console(file=sys.stderr)
        self._progress: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            self._label, total=state.max_steps, completed=state.global_step, figures=""
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._progress is not None and logs:
            self._progress.update(self._task, completed=state.global_step, figures=self.figures(logs))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def figures(self, logs: dict[str, Any]) -> str:
        """The shown metrics of a step in words; those that are missing or not finite are left out."""
        known = [(name, logs.get(key), form) for key, name, form in self._SHOWN]
        return "  ".join(
            f"{name} {value:{form}}" for name, value, form in known if value is not None and math.isfinite(value)
        )
