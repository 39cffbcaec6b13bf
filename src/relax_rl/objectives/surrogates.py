"""The policy-gradient term of each token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch

__all__ = ["ClippedSurrogate"]


@dataclass(frozen=True)
class ClippedSurrogate:
    """PPO's clipped ratio: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(log_probs - old_log_probs).

    Source: arXiv 1707.06347, Eq. 7; ReLaX Eq. 3. ``clip_high > clip_low`` is DAPO's clip-higher (arXiv 2503.14476).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G), and the shares of tokens that were clipped."""
        ratio = torch.exp(batch.log_ratio)
        advantage = advantages.unsqueeze(-1)
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss = -torch.minimum(ratio * advantage, clipped * advantage)
        is_low = (ratio < 1 - self.clip_low) & (advantage < 0)
        is_high = (ratio > 1 + self.clip_high) & (advantage > 0)
        num_tokens = batch.mask.sum().clamp(min=1)
        metrics = {
            "clip_ratio/low_mean": (is_low & batch.mask).sum() / num_tokens,
            "clip_ratio/high_mean": (is_high & batch.mask).sum() / num_tokens,
            "clip_ratio/region_mean": ((is_low | is_high) & batch.mask).sum() / num_tokens,
        }
        return loss, metrics
