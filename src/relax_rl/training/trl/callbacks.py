"""Callbacks beside the loop: metrics on disk, and notices to the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from relax_rl.runs import RunDirectory
from relax_rl.training.selection import Selection
from relax_rl.training.watch import LearningWatch

__all__ = ["EvaluationsDuringTraining", "LearningNotices", "MetricsFile", "OncePrepared", "ProgressReport"]


class OncePrepared(TrainerCallback):
    """Does something when the trainer has made the model ready, before the first update."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._act()


class EvaluationsDuringTraining(TrainerCallback):
    """Has a `Selection` look at the policy after each update."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._selection.after_update(state.global_step, state.max_steps, is_first=state.is_world_process_zero)


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


class ProgressReport(TrainerCallback):
    """Tells how far the training is, on the first process alone.

    Args:
        tell: called at the start and whenever figures are logged, with the updates done, the updates in all, and the
            figures (none at the start).
    """

    def __init__(self, tell: Callable[[int, int, Mapping[str, float]], None]) -> None:
        self._tell = tell

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._tell(state.global_step, state.max_steps, {})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and state.is_world_process_zero and "train_runtime" not in logs:
            self._tell(state.global_step, state.max_steps, logs)


class LearningNotices(TrainerCallback):
    """Has a `LearningWatch` follow the log."""

    def __init__(self, watch: LearningWatch) -> None:
        self._watch = watch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._watch.begin(state.global_step, state.log_history)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "grad_norm" in logs:
            self._watch.update(state.global_step, state.max_steps, logs)
