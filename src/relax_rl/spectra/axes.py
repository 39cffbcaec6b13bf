"""Dynamics over cycles or depth: how fast the states of a token settle, and with which modes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman import dmd

__all__ = ["TOLERANCE", "AxisSpectrum", "axis_spectrum"]

TOLERANCE = 0.01
"""A token has settled, and could halt, once its state changes by less than this share of its length."""
_LEAST_TOKENS = 8
"""Size of a group of tokens that has a spectrum of its own."""


@dataclass(frozen=True)
class AxisSpectrum:
    """The changes of all tokens' states from step to step, as one linear system.

    Attributes:
        name: name of the block, or "layers".
        num_tokens, num_steps: N trajectories of C states each.
        eigenvalues: (real, imaginary) of the operator that takes one change to the next, largest modulus first.
        residuals: residual of each eigenvalue.
        rank: directions of the changes that were kept.
        fixed_point_residual: residual of each step, the mean over tokens of |h_{c+1} - h_c| / |h_{c+1}|.
        contraction: contraction of each step after the first, the median over tokens of
            |h_{c+2} - h_{c+1}| / |h_{c+1} - h_c|.
        settled: share, at each step, of tokens whose change was below `TOLERANCE` of their state then or before.
        halting: (step, tokens, largest modulus): a spectrum for the tokens that settle at each step, those of eight
            tokens or more; the number of steps plus one stands for tokens that never do.
    """

    name: str
    num_tokens: int
    num_steps: int
    eigenvalues: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]
    rank: int
    fixed_point_residual: tuple[float, ...]
    contraction: tuple[float, ...]
    settled: tuple[float, ...]
    halting: tuple[tuple[int, int, float], ...]

    @property
    def moduli(self) -> tuple[float, ...]:
        """Moduli of the eigenvalues."""
        return tuple(math.hypot(*value) for value in self.eigenvalues)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return asdict(self)


def axis_spectrum(name: str, states: Tensor, *, rank: int = 8) -> AxisSpectrum:
    """Fit the changes d_c = h_{c+1} - h_c of every token by one operator, d_{c+1} = d_c K.

    Changes and not states: what a block adds in every cycle (the token's embedding) shifts the fixed point of each
    token, and drops out of the difference.

    Args:
        name: see :class:`AxisSpectrum`.
        states: (N, C, H), C >= 3.
        rank: most directions of the changes to keep; directions at rounding are left out in any case.

    Raises:
        DataError: fewer than three steps, no token, NaN or Inf, or states that never change.
    """
    if states.ndim != 3 or states.shape[0] < 1 or states.shape[1] < 3:
        raise DataError(
            f"Dynamics over {name} need (N, C, H) states of at least 3 steps, got {tuple(states.shape)}; a block that "
            "runs twice has one change, and no change to compare it with."
        )
    changes = states.double().diff(dim=1)
    sizes = torch.linalg.vector_norm(changes, dim=-1)
    if not bool(sizes.isfinite().all()):
        raise DataError(f"The states over {name} hold NaN or Inf.")
    if not bool((sizes > 0).any()):
        raise DataError(f"The states over {name} never change: every token is at its fixed point from the first step.")
    fitted = dmd(list(changes), rank=min(rank, changes.shape[-1]))
    lengths = torch.linalg.vector_norm(states[:, 1:].double(), dim=-1)
    relative = sizes / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    has_settled = (relative < TOLERANCE).cummax(1).values
    moving = torch.where(sizes[:, :-1] > 0, sizes[:, 1:] / sizes[:, :-1], torch.nan)
    return AxisSpectrum(
        name=name,
        num_tokens=len(states),
        num_steps=states.shape[1],
        eigenvalues=tuple((value.real, value.imag) for value in fitted.eigenvalues.tolist()),
        residuals=tuple(fitted.residuals.tolist()),
        rank=int(fitted.rank),
        fixed_point_residual=tuple(relative.mean(0).tolist()),
        contraction=tuple(moving.nanmedian(0).values.tolist()),
        settled=tuple(has_settled.double().mean(0).tolist()),
        halting=_by_halting(changes, 1 + (~has_settled).sum(1), rank),
    )


def _by_halting(changes: Tensor, step: Tensor, rank: int) -> tuple[tuple[int, int, float], ...]:
    """(step, tokens, largest modulus) of the tokens (N,) that settle at each step."""
    found = []
    for at in step.unique().tolist():
        own = changes[step == at]
        if len(own) >= _LEAST_TOKENS and bool(own.any()):
            modes = dmd(list(own), rank=min(rank, own.shape[-1]))
            found.append((int(at), len(own), float(modes.eigenvalues.abs().max())))
    return tuple(found)
