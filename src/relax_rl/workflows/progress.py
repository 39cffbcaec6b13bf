"""Progress of a workflow for its caller: the only thing that comes out of it before its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["OnProgress", "Progress", "Stage", "silent"]

Stage = Literal[
    "loading",
    "before",
    "training",
    "evaluated",
    "after",
    "sampling",
    "measuring",
    "started",
    "ended",
    "failed",
    "notice",
]
"""``before`` and ``after`` are the evaluations of a run, and ``evaluated`` says what one on the way found; ``started``,
``ended`` and ``failed`` concern a run of several. ``notice`` is a sentence about a run that its user should read, at
any time."""


@dataclass(frozen=True)
class Progress:
    """One message, or one step of a count.

    Attributes:
        stage: stage of the work. `train`: notice, before, training, evaluated, after, told as they begin
            (`evaluated`: as it ends). `compare`: started,
            training (twice a second), then ended or failed. `evaluate` and `spectrum`: loading, sampling, measuring.
        done, total: units finished, and in all: updates of a run, or samples of an evaluation; 0 of 0 without a count.
        message: for people; empty for a step of the count.
        run: the run of several, by method and seed; empty outside `compare`.
        metrics: logged numbers of the last update of `train`; empty at the beginning of a stage.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    message: str = ""
    run: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]
"""Receives every `Progress` of a workflow, in order, in the process and thread that called it."""


def silent(progress: Progress) -> None:
    """Tell nobody."""
