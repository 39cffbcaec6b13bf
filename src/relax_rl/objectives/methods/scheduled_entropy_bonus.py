"""An entropy bonus that changes over the run. No paper: exploration first and its price later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.entropy import MovingEntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.updates import Schedule, ScheduleShape, UpdateReport

__all__ = ["ScheduledEntropyBonus", "ScheduledEntropyBonusSettings", "scheduled_entropy_bonus"]


class ScheduledEntropyBonusSettings(AdvantageSettings, RatioSettings):
    """See `ScheduledEntropyBonus`.

    Attributes:
        start: coefficient at the start of the run; the default is that of `entropy_bonus`.
        end: coefficient at its end.
        schedule: "linear" or "cosine".
    """

    start: float = 5e-3
    end: float = 0.0
    schedule: ScheduleShape = "linear"


def scheduled_entropy_bonus(settings: ScheduledEntropyBonusSettings) -> Objective:
    """GRPO with the mean over tokens and `ScheduledEntropyBonus`."""
    bonus = ScheduledEntropyBonus(Schedule(settings.start, settings.end, settings.schedule))
    return Objective(
        name="scheduled_entropy_bonus",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), bonus),
    )


@dataclass(frozen=True)
class ScheduledEntropyBonus(MovingEntropyBonus):
    """An entropy bonus whose coefficient goes from one number to another over the run.

    Attributes:
        schedule: schedule of the coefficient, neither end negative.
        progress: share of the run that is done; it moves.
    """

    schedule: Schedule
    progress: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule.start < 0 or self.schedule.end < 0:
            raise ConfigError(
                f"The entropy coefficient must not be negative, but goes from {self.schedule.start} to "
                f"{self.schedule.end}."
            )

    @property
    def applied(self) -> float:
        return self.schedule.at(self.progress)

    def after(self, report: UpdateReport) -> ScheduledEntropyBonus:
        return replace(self, progress=report.progress)

    def state(self) -> dict[str, Any]:
        return {"progress": self.progress}

    def restored(self, state: Mapping[str, Any]) -> ScheduledEntropyBonus:
        return replace(self, progress=float(state["progress"]))
