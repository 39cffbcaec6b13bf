"""The log of a mean of exponentials, whole and as a sum of shares.

ReLaX's exploration term log((1/n) sum_i exp(s_i)) ties the samples of a mean together, while a trainer that accumulates
gradients, or splits a group over ranks, can only add up shares. Its gradient, though, is a sum:

    d/dtheta log mean_i exp(s_i) = sum_i exp(s_i - Z) ds_i,    Z = log sum_i exp(s_i).

So a pass without gradient gives Z (`log_sum_exp`; shares of it merge by `torch.logaddexp`), and each micro-batch then
adds `additive_surrogate`, whose gradients sum to that of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["additive_surrogate", "log_mean_exp", "log_sum_exp"]


def log_sum_exp(scores: Tensor, is_included: Tensor) -> Tensor:
    """Z = log of the sum of exp(scores) over the included entries of the last axis; -inf where there is none."""
    return torch.logsumexp(scores.masked_fill(~is_included, -torch.inf), dim=-1)


def log_mean_exp(scores: Tensor, is_included: Tensor) -> Tensor:
    """log((1/n) sum exp(scores)) over the n included entries of the last axis; 0, without gradient, where n = 0."""
    count = is_included.sum(-1)
    # logsumexp over nothing but -inf has a NaN gradient, so an empty set is filled with zeros beforehand.
    absent = torch.where((count == 0).unsqueeze(-1), 0.0, -torch.inf).to(scores)
    total = torch.logsumexp(torch.where(is_included, scores, absent), dim=-1)
    return torch.where(count == 0, 0.0, total - count.clamp(min=1).to(scores).log())


def additive_surrogate(scores: Tensor, is_included: Tensor, normalizer: Tensor) -> Tensor:
    """Sum of exp(s - Z) over the included entries, differentiable in the scores; Z is a constant.

    Args:
        scores: (..., n) a share of the samples.
        is_included: (..., n) bool.
        normalizer: (...) Z over all shares, from `log_sum_exp`.

    Returns:
        (...) a value whose gradient is this share's part of the gradient of the log-mean-exp; the values of all shares
        sum to 1, so log the log-mean-exp itself, not this.
    """
    normalizer = normalizer.detach().unsqueeze(-1)
    # exp(-inf - Z) would be 0 with a NaN gradient where Z is -inf too.
    safe = torch.where(is_included, scores - normalizer, 0.0)
    return torch.where(is_included, safe.exp(), 0.0).sum(-1)
