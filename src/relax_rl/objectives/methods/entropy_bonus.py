"""GRPO with the mean over tokens, and a bonus of fixed size on the policy's entropy."""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.entropy import EntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["EntropyBonusSettings", "entropy_bonus"]


class EntropyBonusSettings(AdvantageSettings, RatioSettings):
    """See `EntropyBonus`; 5e-3 is the only coefficient in the paper's sweep that kept the entropy stable."""

    paper: ClassVar[str | None] = "2505.22617"

    coefficient: float = 5e-3


def entropy_bonus(settings: EntropyBonusSettings) -> Objective:
    """The baseline of arXiv 2505.22617, section 4.1."""
    return Objective(
        name="entropy_bonus",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), EntropyBonus(settings.coefficient)),
    )
