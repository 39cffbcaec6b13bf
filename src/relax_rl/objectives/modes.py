"""How the completions of a group share out among modes, that is among the solutions that they found.

A mode is a number (`relax_rl.objectives.inputs.MODES`). Right completions of which no mode is known (-1) count as one
mode: none of them is novel for being unreadable.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mode_counts", "num_modes"]


def mode_counts(modes: Tensor, takes_part: Tensor) -> Tensor:
    """(P, G) completions of the group in each one's mode, itself included, among those that take part; else 0."""
    is_same = (modes.unsqueeze(-1) == modes.unsqueeze(-2)) & takes_part.unsqueeze(-2) & takes_part.unsqueeze(-1)
    return is_same.sum(-1)


def num_modes(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """(P, 1) different modes of a group, for its `mode_counts`."""
    # Each of the c completions of a mode adds 1 / c. Rounded: the sum of thirds is not 1 to the bit.
    return (
        torch.where(counts > 0, 1 / counts.clamp(min=1).to(torch.float64), 0.0).sum(-1, keepdim=True).round().to(dtype)
    )
