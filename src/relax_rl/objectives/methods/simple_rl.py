"""The loss of SimpleRL-Zoo's scripts (arXiv 2503.18892): GRPO, a k3 KL, an entropy bonus, the mean over tokens.

So the "GRPO" baselines that others copy from there hold a KL and an entropy bonus.
"""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.entropy import EntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["SimpleRLSettings", "simple_rl"]


class SimpleRLSettings(AdvantageSettings, RatioSettings):
    """SimpleRL-Zoo's: ``beta`` is 1e-4 up to 14B, 1e-3 above.

    Attributes:
        entropy_coefficient: coefficient of the entropy bonus.
    """

    paper: ClassVar[str | None] = "2503.18892"

    beta: float = 1e-4
    entropy_coefficient: float = 1e-3


def simple_rl(settings: SimpleRLSettings) -> Objective:
    """The loss of SimpleRL-Zoo."""
    return Objective(
        name="simple_rl",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), EntropyBonus(settings.entropy_coefficient)),
    )
