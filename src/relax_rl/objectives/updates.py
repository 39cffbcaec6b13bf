"""The figures of a finished update, and schedules over the updates of a run.

An objective never changes while an update is under way. After it, `Objective.after` gives the objective of the next
one, and the caller that steps the optimiser keeps `Objective.state` with the checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from relax_rl.errors import ConfigError

__all__ = ["Schedule", "ScheduleShape", "UpdateReport"]


@dataclass(frozen=True)
class UpdateReport:
    """Figures of one finished update, over all its micro-batches and ranks.

    Attributes:
        step: updates finished, this one included.
        num_steps: updates of the whole run.
        entropy: mean over the update's tokens, in nats, under the policy before the update.
        covariance: covariance of log-probability and advantage over the update's tokens (arXiv 2505.22617, Eq. 10,
            averaged).
        advantage_rms: root mean square of the advantages over the update's completions.
        metrics: the objective's own metrics, averaged over micro-batches and ranks.
    """

    step: int
    num_steps: int
    entropy: float
    covariance: float = float("nan")
    advantage_rms: float = float("nan")
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether it says anything: nothing can follow from an update whose entropy is no number."""
        return math.isfinite(self.entropy) and math.isfinite(self.covariance)

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return min(self.step / self.num_steps, 1.0) if self.num_steps > 0 else 1.0


ScheduleShape = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` over a run, in a straight line or along half a cosine."""

    start: float
    end: float
    shape: ScheduleShape = "linear"

    def __post_init__(self) -> None:
        if self.shape not in get_args(ScheduleShape):
            raise ConfigError(f"schedule is {self.shape!r}; choose one of {', '.join(get_args(ScheduleShape))}.")

    def at(self, progress: float) -> float:
        """The number after a share of the run, in [0, 1]."""
        share = progress if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
        return self.start + (self.end - self.start) * share
