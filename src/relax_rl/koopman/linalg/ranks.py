"""How many singular directions to keep: a number, a share of the energy, or what stands out of noise."""

from __future__ import annotations

import math
from functools import lru_cache
from operator import index
from typing import Literal, SupportsIndex

import torch
from torch import Tensor

from relax_rl.errors import ConfigError

__all__ = ["Rank", "check_rank", "hard_threshold", "select_rank"]

Rank = int | float | Literal["optimal"] | None
"""A number of directions; a share of the energy, in (0, 1); "optimal", the hard threshold of Gavish and Donoho (2014);
None, all that are above rounding."""


def check_rank(rank: Rank, limit: int) -> Rank:
    """The rank, a whole number of any library as a Python one; refused if it is none of the kinds above.

    Raises:
        ConfigError: such a rank, or a number outside 1..limit (the number of observables).
    """
    # To Python a bool is a whole number; `rank=True` is a mistake and not a rank of one.
    if isinstance(rank, SupportsIndex) and not isinstance(rank, bool):
        number = index(rank)
        if not 1 <= number <= limit:
            raise ConfigError(f"rank must lie in 1..{limit} (the number of observables), got {number}.")
        return number
    is_share = isinstance(rank, float) and 0.0 < rank < 1.0
    if not (is_share or rank is None or rank == "optimal"):
        raise ConfigError(
            f"rank must be a whole number, a share of the energy between 0 and 1, 'optimal' or None, got {rank!r}."
        )
    return rank


def select_rank(singular_values: Tensor, rank: Rank, num_rows: Tensor, num_columns: int, floor: float) -> Tensor:
    """Number of directions to keep of each matrix, (...) int64, never more than are above rounding.

    Args:
        singular_values: (..., K), descending, of matrices with `num_rows` by `num_columns` entries that count.
        rank: see :data:`Rank`.
        num_rows: (...) int64.
        num_columns: number of columns in all.
        floor: singular values below this share of the largest are rounding.
    """
    largest = singular_values[..., :1]
    limit = ((singular_values > floor * largest) & (largest > 0)).sum(-1)
    if rank is None:
        return limit
    if rank == "optimal":
        shapes = {int(rows) for rows in num_rows.flatten().tolist()}
        factors = {rows: hard_threshold(rows, num_columns) for rows in shapes}
        factor = torch.tensor([factors[int(rows)] for rows in num_rows.flatten().tolist()]).view(num_rows.shape)
        # Rows without a pair add singular values of zero, which are no part of the median.
        counted = torch.arange(singular_values.shape[-1]) < num_rows.cpu().clamp(max=num_columns).unsqueeze(-1)
        # The quantile, since torch.median takes the lower of two values in the middle.
        median = torch.where(counted, singular_values.cpu(), torch.nan).nanquantile(0.5, -1)
        threshold = (factor.to(median.dtype) * median).to(singular_values.device)
        chosen = (singular_values > threshold.unsqueeze(-1)).sum(-1)
    elif isinstance(rank, float):
        # The smallest number of directions that reaches the share: one more than those that fall short of it.
        energy = singular_values.square().cumsum(-1)
        chosen = (energy < rank * energy[..., -1:]).sum(-1) + 1
    else:
        chosen = torch.full_like(limit, rank)
    # Never more than are above rounding, whatever was asked for: callers divide by their singular values.
    return torch.minimum(chosen, limit)


@lru_cache(maxsize=256)
def hard_threshold(num_rows: int, num_columns: int) -> float:
    """The optimal hard threshold for singular values, in units of their median (Gavish and Donoho 2014, Eq. 11).

    For white noise of unknown size: lambda(b) / sqrt(m(b)), with b the aspect ratio, lambda(b) the threshold at known
    noise and m(b) the median of the Marchenko-Pastur distribution. 2.858 for a square matrix.
    """
    ratio = min(num_rows, num_columns) / max(num_rows, num_columns, 1)
    if ratio == 0:
        return math.inf
    known = math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + math.sqrt(ratio**2 + 14 * ratio + 1)))
    return known / math.sqrt(_marchenko_pastur_median(ratio))


def _marchenko_pastur_median(ratio: float) -> float:
    """With x = 1 + b + 2 sqrt(b) sin(t) the density is 2 cos^2(t) / (pi (1 + b + 2 sqrt(b) sin t)), smooth in t."""
    angles = torch.linspace(-math.pi / 2, math.pi / 2, 20_001, dtype=torch.float64)
    points = 1 + ratio + 2 * math.sqrt(ratio) * angles.sin()
    # The square case is 0 / 0 at its left end, where the limit is 2 / pi.
    density = torch.where(points > 1e-15, 2 * angles.cos().square() / (math.pi * points.clamp_min(1e-15)), 2 / math.pi)
    mass = torch.cumulative_trapezoid(density, angles)
    index = int((mass < 0.5).sum())
    before = float(mass[index - 1])
    share = (0.5 - before) / (float(mass[index]) - before)
    return float(points[index] + share * (points[index + 1] - points[index]))
