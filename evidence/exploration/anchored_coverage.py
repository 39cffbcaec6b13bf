"""Credit for different solutions on top of an anchor on a bank: the methods of I4b.

A method of one's own, as `relax train --objective evidence.exploration.anchored_coverage:anchored_coverage` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relax_rl.objectives import Objective, RunLimits, build_objective
from relax_rl.objectives.methods.coverage import CoverageAdvantage
from relax_rl.objectives.settings import MethodSettings

__all__ = ["AnchoredCoverageSettings", "anchored_coverage"]


class AnchoredCoverageSettings(MethodSettings):
    """See `anchored_coverage`.

    Attributes:
        k: see `coverage`.
        anchor: name of the method whose loss it is, but for the advantages.
        bank: folder of an evaluation of the start policy on the same task.
        anchor_options: other settings of the anchor.
    """

    k: int = 4
    anchor: str = "recoverability_floor"
    bank: str = ""
    anchor_options: Mapping[str, Any] = {}


def anchored_coverage(settings: AnchoredCoverageSettings, limits: RunLimits) -> Objective:
    """The loss of an anchor with the advantages of `coverage`; ``beta`` adds a KL.

    Raises:
        ConfigError: a k above what the run's groups hold, or settings that the anchor refuses.
    """
    limits.require_subset("k", settings.k)
    shared = {"bank": settings.bank, "beta": settings.beta, "kl_estimator": settings.kl_estimator}
    anchored = build_objective(settings.anchor, limits, **shared, **settings.anchor_options)
    return replace(anchored, name="anchored_coverage", advantage=CoverageAdvantage(settings.k))
