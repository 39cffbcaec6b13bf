"""Snapshots further apart than one step: pairs at a lag, and sums over windows of several consecutive snapshots.

Pairs (z_t, z_{t+1}) cannot tell dynamics from noise of measurement, which adds to G as variance does. Snapshots further
apart can: noise that is independent from one snapshot to the next is in none of the sums between different snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of, joined_snapshots

__all__ = ["LaggedStatistics", "lagged_snapshots", "lagged_statistics"]


def lagged_snapshots(snapshots: Tensor | Sequence[Tensor], pairs: Tensor | None, lag: int) -> tuple[Tensor, Tensor]:
    """Snapshots in another order, in which neighbours that are pairs lie `lag` steps apart.

    A transformation of trajectories that goes before any of the estimators: `dmd(*lagged_snapshots(states, pairs, 5))`
    fits the operator of five steps, K_5, on every pair (z_t, z_{t+5}). Its eigenvalues are powers: lambda^5.

    Args:
        snapshots: (..., T, F), or a list of (T_i, F).
        pairs: (..., T-1) bool, which neighbours are snapshot pairs; None: all.
        lag: tau, in steps; 1 changes nothing.

    Returns:
        Snapshots (..., T, F), the `lag` interleaved strands z_k, z_{k+lag}, ... one after the other, and their pairs
        (..., T-1) bool: those whose lag + 1 snapshots follow one another without a hole or a change of trajectory.

    Raises:
        ConfigError: a lag below 1.
        DataError: fewer than lag + 1 snapshots.
    """
    if lag < 1:
        raise ConfigError(f"lag must be at least 1 (neighbours), got {lag}.")
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    length = snapshots.shape[-2]
    if length <= lag:
        raise DataError(f"A lag of {lag} needs trajectories of {lag + 1} snapshots or more, got {length}.")
    order = torch.cat([torch.arange(start, length, lag) for start in range(lag)]).to(snapshots.device)
    # True at t where all the pairs from t to t + lag - 1 are.
    is_run = pairs.unfold(-1, lag, 1).all(-1)
    reaches = torch.nn.functional.pad(is_run, (0, lag))
    # The last snapshot of a strand has no run behind it, so no pair joins two strands.
    return snapshots.index_select(-2, order), reaches.index_select(-1, order[:-1])


@dataclass(frozen=True)
class LaggedStatistics:
    """Sums over windows of W consecutive snapshots, float64 (complex128): every product between two of them.

    Statistics of disjoint sets of windows add up (``+``). Pieces of one trajectory must overlap by W - 1 snapshots;
    then each window is in exactly one of them. The sums are not divided by the number of windows.
    """

    blocks: Tensor
    """(..., W, W, F, F): entry i, j is the sum over windows of z_{t+i}* z_{t+j}."""
    num_windows: Tensor
    """(...), int64."""

    @property
    def window(self) -> int:
        """W."""
        return self.blocks.shape[-3]

    @property
    def num_observables(self) -> int:
        """F."""
        return self.blocks.shape[-1]

    def __add__(self, other: LaggedStatistics) -> LaggedStatistics:
        if self.blocks.shape != other.blocks.shape:
            raise DataError(
                f"Lagged statistics of shapes {tuple(self.blocks.shape)} and {tuple(other.blocks.shape)} cannot be "
                "added; use the same observables, window and number of trajectories for both."
            )
        return LaggedStatistics(self.blocks + other.blocks, self.num_windows + other.num_windows)

    def changed_basis(self, basis: Tensor) -> LaggedStatistics:
        """Statistics of the observables X C for C (..., F, R)."""
        basis = basis.unsqueeze(-3).unsqueeze(-3)
        return LaggedStatistics(basis.mH @ self.blocks @ basis, self.num_windows)

    def between(self, first: Sequence[int], second: Sequence[int]) -> Tensor:
        """Sums between some snapshots of the window and others, side by side: (..., len(first) F, len(second) F)."""
        rows = [torch.cat([self.blocks[..., i, j, :, :] for j in second], -1) for i in first]
        return torch.cat(rows, -2)

    def pairs(self, first: int = 0, lag: int = 1) -> GramStatistics:
        """Gram statistics of the pairs (z_{t+first}, z_{t+first+lag}).

        Raises:
            ConfigError: a pair that does not lie within the window.
        """
        if first < 0 or lag < 1 or first + lag >= self.window:
            raise ConfigError(
                f"A window of {self.window} snapshots holds no pair from {first} to {first + lag}; "
                "gather statistics with a larger window."
            )
        block = self.blocks
        return GramStatistics(
            block[..., first, first, :, :],
            block[..., first, first + lag, :, :],
            block[..., first + lag, first + lag, :, :],
            self.num_windows,
        )


def lagged_statistics(snapshots: Tensor, pairs: Tensor, window: int) -> LaggedStatistics:
    """Sums over all windows of `window` snapshots that follow one another without a hole.

    Args:
        snapshots: (..., T, F), real or complex, finite wherever they are in a window.
        pairs: (..., T-1) bool.
        window: W of at least 2; 2 gives the Gram statistics of pairs.

    Returns:
        Statistics of batch shape (...), differentiable in the snapshots. Of fewer than W snapshots all are zero.

    Raises:
        ConfigError: a window below 2.
    """
    if window < 2:
        raise ConfigError(f"A window needs at least 2 snapshots, got {window}.")
    length, num_observables = snapshots.shape[-2:]
    shape = snapshots.shape[:-2]
    values = snapshots.to(double_of(snapshots.dtype))
    count = length - window + 1
    if count < 1:
        blocks = values.new_zeros((*shape, window, window, num_observables, num_observables))
        return LaggedStatistics(blocks, pairs.new_zeros(shape, dtype=torch.long))
    is_window = pairs.unfold(-1, window - 1, 1).all(-1)
    if bool(is_window.all()):
        upper = _unbroken_products(values, count, window)
    elif values.ndim > 2:
        upper = _masked_products(values, is_window, window)
    else:
        upper = _products_by_lag(values, is_window, window)
    rows = [torch.stack([upper[i, j] if i <= j else upper[j, i].mH for j in range(window)], -3) for i in range(window)]
    return LaggedStatistics(torch.stack(rows, -4), is_window.sum(-1))


def _masked_products(values: Tensor, is_window: Tensor, window: int) -> dict[tuple[int, int], Tensor]:
    """Products (i, j), i <= j, of a batch whose rows have holes of their own."""
    keep, count = is_window.unsqueeze(-1), is_window.shape[-1]
    # `where` and not a product with the mask: padding may hold NaN, and NaN times zero is NaN.
    parts = [torch.where(keep, values[..., i : i + count, :], 0.0) for i in range(window)]
    return {(i, j): parts[i].mH @ parts[j] for i in range(window) for j in range(i, window)}


def _unbroken_products(values: Tensor, count: int, window: int) -> dict[tuple[int, int], Tensor]:
    """Products (i, j), i <= j, where no trajectory has a hole: those of `_products_by_lag` by slices alone."""

    def product(start: int, stop: int, lag: int) -> Tensor:
        stop = max(start, stop)
        return values[..., start:stop, :].mH @ values[..., start + lag : stop + lag, :]

    upper = {}
    for lag in range(window):
        # First snapshots of the pairs at place i are i to i + count: those from `top` to `count` are at every place.
        top = window - 1 - lag
        shared = product(top, count, lag)
        for i in range(window - lag):
            before, behind = product(i, min(top, i + count), lag), product(max(top, count), i + count, lag)
            upper[i, i + lag] = shared + before + behind
    return upper


def _products_by_lag(values: Tensor, is_window: Tensor, window: int) -> dict[tuple[int, int], Tensor]:
    """The same of one trajectory, or several end to end, with windows (count,).

    Products (i, i + lag) of one lag differ in the first and last snapshots of each stretch alone: what they share is
    multiplied once. The rest is added to it and never taken off, so that no digit is lost to a large snapshot.
    """
    # Row i: the snapshots that stand at place i of a window.
    stands = torch.stack([torch.nn.functional.pad(is_window, (i, window - 1 - i)) for i in range(window)])
    upper = {}
    for lag in range(window):
        places = stands[: window - lag]
        is_shared = places.all(0)
        shared = _product(values, is_shared, lag)
        for i, at in enumerate(places):
            upper[i, i + lag] = shared + _product(values, at & ~is_shared, lag)
    return upper


def _product(values: Tensor, at: Tensor, lag: int) -> Tensor:
    """Sum over the marked t (T,) of z_t* z_{t+lag}."""
    chosen = at.nonzero().squeeze(-1)
    count = len(chosen)
    if count and int(chosen[-1] - chosen[0]) == count - 1:  # a stretch is a view, no copy
        start = int(chosen[0])
        return values[..., start : start + count, :].mH @ values[..., start + lag : start + lag + count, :]
    return values.index_select(-2, chosen).mH @ values.index_select(-2, chosen + lag)
