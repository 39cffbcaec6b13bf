"""GSPO (arXiv 2507.18071): the ratio of the whole completion, clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.surrogates import RatioSurrogate

__all__ = ["GSPOSettings", "SequenceRatioSurrogate", "gspo"]


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


@dataclass(frozen=True)
class SequenceRatioSurrogate(RatioSurrogate):
    """GSPO: PPO's clip on the ratio of the whole completion (arXiv 2507.18071, GSPO-token form).

    s_i = exp(mean_t (log_probs - old_log_probs)), and for each token s_it = sg[s_i] exp(log_probs - sg[log_probs]),
    which has the value of s_i and hands each token its gradient; sg stops the gradient. verl also caps log s_it at 10;
    we do not. On the first update after a rollout, where every ratio is 1, it is GRPO.

    Attributes:
        clip_low, clip_high: 3e-4 and 4e-4 (the paper's section 5.1, as TRL's paper index quotes it).
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T), and the shares of tokens that were clipped."""
        log_ratio = batch.log_ratio.detach()
        # Masked tokens have log ratio 0, so the sum is that of the completion; the length is clamped for an empty one.
        mean = log_ratio.sum(-1, keepdim=True) / batch.lengths.unsqueeze(-1).clamp(min=1)
        # Masked before the exponential, whose gradient would be NaN where a log-probability behind the mask is.
        own = (batch.log_probs - batch.log_probs.detach()).masked_fill(~batch.mask, 0.0)
        ratio = torch.exp(mean + own)
        return self.bounded(ratio, advantages, batch)
