"""An early warning of collapse: where the entropy is heading, from figures that each update has anyway.

"The Entropy Mechanism" (arXiv 2505.22617): under a natural policy gradient the entropy of a softmax policy changes by
-eta Cov(log pi, A) in a step of size eta (Theorem 2). The optimiser here is not that, and the policy is not a table, so
eta is not the learning rate. It is estimated as the run goes on, from the changes that followed earlier covariances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from relax_rl.objectives.updates import UpdateReport

__all__ = ["EntropyForecast"]

_FORGET = 0.9
"""Weight of what is known against what is new: the last ten updates or so count."""
_FLOOR = 0.1
"""The floor, as a share of the entropy of the run's first update."""


@dataclass(frozen=True)
class EntropyForecast:
    """Statistics of how the entropy follows the covariance; immutable.

    Attributes:
        first_entropy: entropy of the run's first update.
        entropy, covariance: entropy and covariance of the last update.
        square, product: running sums of covariance^2 and of -covariance times the change that followed it; their ratio
            is eta.
        slope: running mean of the predicted changes, in nats an update.
    """

    first_entropy: float | None = None
    entropy: float | None = None
    covariance: float = 0.0
    square: float = 0.0
    product: float = 0.0
    slope: float | None = None

    @property
    def predicted_change(self) -> float | None:
        """Change of the entropy, in nats a token, that the last update is expected to bring; None until it can be said.

        eta is never taken to be negative: that would be noise, not the theorem.
        """
        return None if self.square == 0 else -max(self.product / self.square, 0.0) * self.covariance

    @property
    def steps_to_floor(self) -> float | None:
        """Updates until a tenth of the first entropy at the predicted rate; 0 below it, None where nothing falls."""
        if self.entropy is None or self.first_entropy is None:
            return None
        distance = self.entropy - _FLOOR * self.first_entropy
        if distance <= 0:
            return 0.0
        return distance / -self.slope if self.slope is not None and self.slope < 0 else None

    @property
    def metrics(self) -> dict[str, float]:
        """Statistics so far, under the names of the log."""
        known = {
            "entropy/covariance": self.covariance,
            "entropy/predicted_change": self.predicted_change,
            "entropy/steps_to_floor": self.steps_to_floor,
        }
        return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}

    def after(self, report: UpdateReport) -> EntropyForecast:
        """With one more update; an update without a finite entropy and covariance is passed over."""
        if not (math.isfinite(report.entropy) and math.isfinite(report.covariance)):
            return self
        moved = replace(self, entropy=report.entropy, covariance=report.covariance)
        if self.entropy is None:
            return replace(moved, first_entropy=report.entropy)
        change = report.entropy - self.entropy
        moved = replace(
            moved,
            square=_FORGET * self.square + self.covariance**2,
            product=_FORGET * self.product - self.covariance * change,
        )
        predicted = moved.predicted_change
        if predicted is None:
            return moved
        slope = predicted if self.slope is None else _FORGET * self.slope + (1 - _FORGET) * predicted
        return replace(moved, slope=slope)

    def state(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> EntropyForecast:
        """From `state`."""
        return cls(**state)
