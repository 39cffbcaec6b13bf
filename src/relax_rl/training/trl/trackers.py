"""Trackers (W&B, TensorBoard, trackio, ...) only look on: one that fails is left out, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from relax_rl.training.notices import Notices

__all__ = ["Harmless", "make_harmless"]

_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


def make_harmless(callbacks: list[TrainerCallback], report_to: str | list[str] | None, say: Notices) -> None:
    """Have the trackers among some callbacks fail with one sentence, after which they receive nothing.

    Args:
        callbacks: callbacks of a trainer, changed in place: they stay what they are, so that they can be found by their
            class.
        report_to: setting of the trainer's arguments that names the trackers.
        say: receives the sentence.
    """
    trackers = set(get_reporting_integration_callbacks(report_to))
    for callback in callbacks:
        if type(callback) in trackers:
            Harmless(callback, say)


class Harmless:
    """Stands before every event of one tracker."""

    def __init__(self, tracker: TrainerCallback, say: Notices) -> None:
        self._name = type(tracker).__name__.removesuffix("Callback")
        self._say = say
        self._is_dead = False
        for event in _EVENTS:
            setattr(tracker, event, self._guarded(event, attrgetter(event)(tracker)))

    def _guarded(self, event: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(args: TrainingArguments, state: TrainerState, *rest: Any, **more: Any) -> Any:
            if self._is_dead:
                return None
            try:
                return method(args, state, *rest, **more)
            except Exception as error:
                self._is_dead = True
                self._say(
                    f"The tracker {self._name} failed after update {state.global_step}, at {event} "
                    f"({type(error).__name__}: {error}). The run goes on without it; metrics.jsonl has all figures."
                )
                return None

        return call
