"""A floor under the probability of the start policy's correct traces, and no force above it."""

from __future__ import annotations

import math
from typing import ClassVar

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.anchors import OneSidedAnchor
from relax_rl.objectives.inputs import BankTerm
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["RecoverabilityFloorSettings", "recoverability_floor"]


class RecoverabilityFloorSettings(AdvantageSettings, RatioSettings):
    """GRPO and weight relu(log share - (log pi(y) - log pi_start(y))) over traces y of a bank.

    By Jensen, a mode whose traces lie above the floor on average has kept ``share`` of its probability. All traces have
    one weight.

    Attributes:
        bank: folder of an evaluation of the start policy on the same task (`relax eval ... -o DIR`).
        share: share of the start policy's probability of a trace that must be kept.
        weight: at the start; dual ascent moves it.
        ascent: step of the dual ascent, for each nat below the floor.
        most: bound on the weight.
    """

    paper: ClassVar[str | None] = None

    bank: str = ""
    share: float = 0.1
    weight: float = 0.01
    ascent: float = 0.01
    most: float = 1.0


def recoverability_floor(settings: RecoverabilityFloorSettings) -> Objective:
    """GRPO's loss with `OneSidedAnchor`. Raises ConfigError for a share that is no share."""
    if not 0 < settings.share <= 1:
        raise ConfigError(f"objective.share must be above 0 and at most 1, but is {settings.share}.")
    term = BankTerm(path=settings.bank, kind="log_ratio")
    floor = OneSidedAnchor(term, -1.0, math.log(settings.share), settings.weight, settings.ascent, settings.most)
    return Objective(
        name="recoverability_floor",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*settings.kl("completion_mean"), floor),
    )
