"""The log of a mean of exponentials, log((1/n) sum_i exp(s_i)): ReLaX's exploration term.

It ties the samples of a mean together. Where they are split over micro-batches, see `relax_rl.objectives.shares`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_mean_exp"]


def log_mean_exp(scores: Tensor, is_included: Tensor) -> Tensor:
    """log((1/n) sum exp(scores)) over the n included entries of the last axis; 0, without gradient, where n = 0."""
    count = is_included.sum(-1)
    # logsumexp over nothing but -inf has a NaN gradient, so an empty set is filled with zeros beforehand.
    absent = torch.where((count == 0).unsqueeze(-1), 0.0, -torch.inf).to(scores)
    total = torch.logsumexp(torch.where(is_included, scores, absent), dim=-1)
    return torch.where(count == 0, 0.0, total - count.clamp(min=1).to(scores).log())
