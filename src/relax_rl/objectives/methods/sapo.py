"""SAPO (arXiv 2511.20347): a soft gate in place of PPO's clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import Surrogate
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import of_each_token

__all__ = ["SAPOSettings", "SoftGateSurrogate", "sapo"]


class SAPOSettings(AdvantageSettings):
    """SAPO's.

    Attributes:
        temperature_positive, temperature_negative: see `SoftGateSurrogate`.
    """

    paper: ClassVar[str | None] = "2511.20347"

    temperature_positive: float = 1.0
    temperature_negative: float = 1.05


def sapo(settings: SAPOSettings) -> Objective:
    """GRPO's loss with `SoftGateSurrogate`. On the first update after a rollout its gradient is GRPO's."""
    return Objective(
        name="sapo",
        advantage=settings.advantage,
        surrogate=SoftGateSurrogate(settings.temperature_positive, settings.temperature_negative),
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class SoftGateSurrogate(Surrogate):
    """-f(r) A with f(r) = (4 / temperature) sigmoid(temperature (r - 1)), of slope 1 at r = 1 and less around it.

    Attributes:
        temperature_positive: for A > 0.
        temperature_negative: for the others; larger, so that their gradient fades sooner (the paper, and TRL).
    """

    temperature_positive: float = 1.0
    temperature_negative: float = 1.05

    def __post_init__(self) -> None:
        if self.temperature_positive <= 0 or self.temperature_negative <= 0:
            raise ConfigError(
                "temperature_positive and temperature_negative must be above 0, but are "
                f"{self.temperature_positive} and {self.temperature_negative}."
            )

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the mean slope of the gate."""
        advantage = of_each_token(advantages)
        temperature = torch.where(advantage > 0, self.temperature_positive, self.temperature_negative)
        gate = torch.sigmoid(temperature * (torch.exp(batch.log_ratio) - 1))
        slope = (4 * gate * (1 - gate)).detach().masked_fill(~batch.mask, 0.0)
        return -4 / temperature * gate * advantage, {"gate/slope": slope.sum() / batch.mask.sum().clamp(min=1)}
