"""Group relative policy optimisation (arXiv 2402.03300)."""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["GRPOSettings", "grpo"]


class GRPOSettings(AdvantageSettings, RatioSettings):
    """GRPO's: the KL is off, as in TRL; the paper has ``beta`` = 0.04."""

    paper: ClassVar[str | None] = "2402.03300"


def grpo(settings: GRPOSettings) -> Objective:
    """loss = -(1/B) sum_i (1/T_i) sum_t min(r A, clip(r) A) + beta KL(policy || reference)."""
    return Objective(
        name="grpo",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )
