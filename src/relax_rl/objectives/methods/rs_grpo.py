"""RS-GRPO (arXiv 2509.24261): a risk-seeking group, that is one judged by its better completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["RSGRPOSettings", "RiskSeekingAdvantage", "rs_grpo"]


class RSGRPOSettings(RatioSettings):
    """The method is its advantage; the rest is GRPO's.

    Attributes:
        risk: see `RiskSeekingAdvantage`; the authors' 2.
    """

    paper: ClassVar[str | None] = "2509.24261"

    risk: float = 2.0


def rs_grpo(settings: RSGRPOSettings) -> Objective:
    """GRPO's loss with `RiskSeekingAdvantage`."""
    return Objective(
        name="rs_grpo",
        advantage=RiskSeekingAdvantage(settings.risk),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class RiskSeekingAdvantage(Advantage):
    """A_i = (exp(risk r_i) / mean_j exp(risk r_j) - 1) / risk; towards 0 it is r_i - mean, towards infinity the best.

    Attributes:
        risk: the authors' beta, above 0.
    """

    risk: float = 2.0

    def __post_init__(self) -> None:
        if not self.risk > 0:
            raise ConfigError(f"risk must be above 0, but is {self.risk}; for none choose dr_grpo.")

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient."""
        scaled = self.risk * batch.float_rewards
        # Less the largest one, so that no exponential overflows; the quotient is the same.
        best = scaled.nan_to_num(nan=-torch.inf).amax(-1, keepdim=True)
        tilted = torch.exp(scaled - best)
        return ((tilted / tilted.nanmean(-1, keepdim=True) - 1) / self.risk).nan_to_num(nan=0.0)
