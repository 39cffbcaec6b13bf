"""Entropy bonuses, terms added to the loss."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input

__all__ = ["EntropyBonus", "MovingEntropyBonus", "require_coefficient"]


def require_coefficient(value: float) -> None:
    """Raises ConfigError for a negative coefficient of an entropy term."""
    if value < 0:
        raise ConfigError(f"The entropy coefficient must not be negative, but is {value}; 0 switches the term off.")


@dataclass(frozen=True)
class EntropyBonus(Regularizer):
    """-coefficient times the mean entropy over all tokens of the update (verl's ``entropy_coeff`` and token mean).

    Attributes:
        coefficient: fixed. The Entropy Mechanism paper (arXiv 2505.22617, section 4.1) saw no effect at 1e-4 and 1e-3,
            a stable entropy without gain at 5e-3, and an explosion at 1e-2.
    """

    coefficient: float = 5e-3

    def __post_init__(self) -> None:
        require_coefficient(self.coefficient)

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        entropy = batch.required(ENTROPY)
        # A bonus on a detached entropy would change the number that is logged and nothing else.
        if torch.is_grad_enabled() and batch.log_probs.requires_grad and not entropy.requires_grad:
            raise DataError("An entropy bonus needs an entropy with gradient, but RolloutBatch.entropy is detached.")
        # The entropy is 0 where masked, so the plain sum is that of the tokens.
        share = entropy.sum() / max(batch.update_totals.num_tokens, 1.0)
        return -self.coefficient * share, {}


class MovingEntropyBonus(Regularizer):
    """An `EntropyBonus` whose coefficient moves between updates; a subclass says by which rule."""

    @property
    @abstractmethod
    def applied(self) -> float:
        """The coefficient that is in force."""

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    @property
    def is_active(self) -> bool:
        return self.applied != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        share, metrics = EntropyBonus(self.applied)(batch, measured)
        return share, metrics | {"entropy/coefficient": torch.tensor(self.applied)}
