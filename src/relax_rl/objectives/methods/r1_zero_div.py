"""R1-zero-Div (arXiv 2505.23433): GRPO, and the sampled entropy of correct completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import SequenceMeanTokenMean, sequence_token_mean
from relax_rl.objectives.base import Measurements, Regularizer
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.entropy import require_coefficient
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["CorrectEntropy", "R1ZeroDivSettings", "r1_zero_div"]


class R1ZeroDivSettings(AdvantageSettings, RatioSettings):
    """R1-zero-Div's; see `CorrectEntropy`.

    The authors' GRPO has a KL to the reference; we found no coefficient for it, so ``beta`` is 0 unless it is set.
    """

    paper: ClassVar[str | None] = "2505.23433"

    coefficient: float = 0.01
    correct_reward: float = 1.0


def r1_zero_div(settings: R1ZeroDivSettings) -> Objective:
    """The loss of R1-zero-Div."""
    return Objective(
        name="r1_zero_div",
        advantage=settings.advantage,
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*settings.kl("completion_mean"), CorrectEntropy(settings.coefficient, settings.correct_reward)),
    )


@dataclass(frozen=True)
class CorrectEntropy(Regularizer):
    """R1-zero-Div's diversity term (arXiv 2505.23433, section 4), on correct completions only:

        L = coefficient (1/B) sum_i 1[R_i = 1] (1/T_i) sum_t r_t log_probs_t.

    r log_probs estimates the negative entropy from the sampled token. The gradient runs through both factors:
    r (1 + log_probs) for each token's log-probability. So at r = 1 tokens above 1/e get less likely, others more.

    Attributes:
        coefficient: 0.01 (paper).
        correct_reward: completions with at least this reward are correct.
    """

    coefficient: float = 0.01
    correct_reward: float = 1.0

    def __post_init__(self) -> None:
        require_coefficient(self.coefficient)

    @property
    def is_active(self) -> bool:
        return self.coefficient != 0

    def __call__(self, batch: RolloutBatch, measured: Measurements) -> tuple[Tensor, dict[str, Tensor]]:
        # Masked first: a product with a log-probability of NaN behind the mask would have a NaN gradient.
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        per_completion = sequence_token_mean(torch.exp(batch.log_ratio) * log_probs, batch)
        is_correct = batch.rewards >= self.correct_reward
        share = per_completion.masked_fill(~is_correct, 0.0).sum() / batch.update_totals.num_completions
        return self.coefficient * share, {}
