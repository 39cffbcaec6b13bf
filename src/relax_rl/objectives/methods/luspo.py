"""LUSPO (arXiv 2602.05261): GSPO whose completions count by their length, so that each token of a long one counts."""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.aggregation import SequenceMeanTokenSum
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.surrogates import SequenceRatioSurrogate

__all__ = ["LUSPOSettings", "luspo"]


class LUSPOSettings(AdvantageSettings, RatioSettings):
    """LUSPO's, with GSPO's bounds."""

    paper: ClassVar[str | None] = "2602.05261"

    clip_low: float = 3e-4
    clip_high: float = 4e-4


def luspo(settings: LUSPOSettings) -> Objective:
    """loss = -(1/B) sum_i T_i min(s_i A_i, clip(s_i) A_i), s_i the ratio of the completion (TRL's ``luspo``)."""
    return Objective(
        name="luspo",
        advantage=settings.advantage,
        surrogate=SequenceRatioSurrogate(settings.clip_low, settings.clip_high, settings.delta, settings.dual_clip),
        aggregation=SequenceMeanTokenSum(1),
        regularizers=settings.kl("token_sum", 1),
    )
