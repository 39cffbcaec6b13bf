"""Delay embedding: each snapshot with those before it, as one longer snapshot (the rows of a Hankel matrix).

A transformation of trajectories, which goes before any of the estimators: `dmd(*delay_embedding(states, pairs, 8))` is
Hankel DMD, and so on for ridge, kernels, dictionaries and the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.pairs.snapshots import joined_snapshots

__all__ = ["delay_embedding"]


def delay_embedding(states: Tensor | Sequence[Tensor], pairs: Tensor | None, delays: int) -> tuple[Tensor, Tensor]:
    """Stack `delays` consecutive states into one, newest last, wherever nothing is missing between them.

    Args:
        states: (..., T, H), or a list of (T_i, H).
        pairs: (..., T-1) bool, which neighbours are snapshot pairs; None: all.
        delays: d, the number of states stacked; 1 changes nothing.

    Returns:
        Embedded states (..., T-d+1, d H), row t holding states t .. t+d-1, and the pairs among them (..., T-d) bool:
        those whose d + 1 states follow one another without a hole or a change of trajectory.

    Raises:
        ConfigError: delays below 1.
        DataError: fewer than d + 1 states.
    """
    if delays < 1:
        raise ConfigError(f"delays must be at least 1 (no embedding), got {delays}.")
    states, pairs = joined_snapshots(states, pairs)
    if states.shape[-2] <= delays:
        raise DataError(f"{delays} delays need trajectories of {delays + 1} states or more, got {states.shape[-2]}.")
    windows = states.unfold(-2, delays, 1).movedim(-1, -2)
    return windows.flatten(-2), pairs.unfold(-1, delays, 1).all(-1)
