"""Statistics of the moduli of a spectrum, batched, of those that are kept."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["median_of", "variance_of"]


def variance_of(moduli: Tensor, is_kept: Tensor | None = None) -> Tensor:
    """Population variance over the last dimension, of the entries kept; fine with no rows, where torch.var warns."""
    weights = torch.ones_like(moduli) if is_kept is None else is_kept.to(moduli.dtype)
    count = weights.sum(-1, keepdim=True).clamp_min(1.0)
    mean = (weights * moduli).sum(-1, keepdim=True) / count
    return (weights * (moduli - mean).square()).sum(-1) / count.squeeze(-1)


def median_of(values: Tensor) -> Tensor:
    """Median over the last dimension of what is not NaN; of an even number, the mean of the two in the middle."""
    if values.shape[0] == 0:
        return values.sum(-1)
    return values.nanquantile(0.5, dim=-1)
