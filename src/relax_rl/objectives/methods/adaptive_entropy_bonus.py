"""A bonus that keeps the entropy at a target (Skywork-OR1, arXiv 2505.22312), with TRL's defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.entropy import MovingEntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, ClipSettings
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.updates import UpdateReport

__all__ = ["AdaptiveEntropyBonus", "AdaptiveEntropyBonusSettings", "adaptive_entropy_bonus"]


class AdaptiveEntropyBonusSettings(AdvantageSettings, ClipSettings):
    """See `AdaptiveEntropyBonus`.

    Attributes:
        delta: change of the coefficient after an update (TRL's ``entropy_coef_delta``), not the bound on the ratio.
    """

    paper: ClassVar[str | None] = "2505.22312"

    target: float = 0.2
    delta: float = 0.005
    coefficient: float = 0.0
    low: float = 0.0
    high: float = 1.0


def adaptive_entropy_bonus(settings: AdaptiveEntropyBonusSettings) -> Objective:
    """GRPO with the mean over tokens and `AdaptiveEntropyBonus`."""
    bonus = AdaptiveEntropyBonus(settings.target, settings.delta, settings.low, settings.high, settings.coefficient)
    return Objective(
        name="adaptive_entropy_bonus",
        advantage=settings.advantage,
        surrogate=ClippedSurrogate(settings.clip_low, settings.clip_high),
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), bonus),
    )


@dataclass(frozen=True)
class AdaptiveEntropyBonus(MovingEntropyBonus):
    """An entropy bonus that acts while the entropy is below a target (Skywork-OR1, arXiv 2505.22312; TRL).

    After each update the coefficient rises by ``delta`` if the update's entropy was at most ``target`` and falls by it
    otherwise, within [low, high]. The next update has the bonus only if the entropy was at most the target. These are
    the rules of TRL's ``use_adaptive_entropy``; the first update, before any entropy is known, has no bonus.

    Attributes:
        target: in nats a token, 0.2 (TRL).
        delta: 0.005 (TRL).
        low, high: 0 and 1 (TRL).
        coefficient: at the start 0 (TRL); it moves.
        last_entropy: entropy of the update before, infinite before the first; it moves.
    """

    target: float = 0.2
    delta: float = 0.005
    low: float = 0.0
    high: float = 1.0
    coefficient: float = 0.0
    last_entropy: float = math.inf

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise ConfigError(f"delta must be positive, but is {self.delta}; for a fixed bonus take entropy_bonus.")
        if not 0 <= self.low <= self.coefficient <= self.high:
            raise ConfigError(
                f"The coefficient must lie in [low, high] with low >= 0, but is {self.coefficient}, and the bounds "
                f"are {self.low} and {self.high}."
            )

    @property
    def applied(self) -> float:
        return self.coefficient if self.last_entropy <= self.target else 0.0

    @property
    def waits_for(self) -> str:
        waits = f"an update whose entropy is at most objective.target = {self.target:g} nats a token"
        return "" if self.is_active else waits

    def after(self, report: UpdateReport) -> AdaptiveEntropyBonus:
        # At the target it still rises: TRL compares with <=.
        step = self.delta if report.entropy <= self.target else -self.delta
        moved = min(max(self.coefficient + step, self.low), self.high)
        return replace(self, coefficient=moved, last_entropy=report.entropy)

    def state(self) -> dict[str, Any]:
        last_entropy = self.last_entropy if math.isfinite(self.last_entropy) else None
        return {"coefficient": self.coefficient, "last_entropy": last_entropy}

    def restored(self, state: Mapping[str, Any]) -> AdaptiveEntropyBonus:
        last_entropy = math.inf if state["last_entropy"] is None else float(state["last_entropy"])
        return replace(self, coefficient=float(state["coefficient"]), last_entropy=last_entropy)
