"""GSPO (arXiv 2507.18071): the ratio of the whole completion, clipped."""

from __future__ import annotations

from typing import ClassVar

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.surrogates import SequenceRatioSurrogate

__all__ = ["GSPOSettings", "gspo"]


class GSPOSettings(AdvantageSettings, RatioSettings):
    """GSPO's: bounds a thousand times narrower than PPO's, since a completion's mean ratio moves little."""

    paper: ClassVar[str | None] = "2507.18071"

    clip_low: float = 3e-4
    clip_high: float = 4e-4


def gspo(settings: GSPOSettings) -> Objective:
    """The loss of GSPO. The clip acts from the second update of a rollout on; before it, all ratios are 1."""
    return Objective(
        name="gspo",
        advantage=settings.advantage,
        surrogate=SequenceRatioSurrogate(settings.clip_low, settings.clip_high, settings.delta, settings.dual_clip),
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )
