"""From ragged, masked trajectories to snapshot pairs, and from pairs to additive Gram statistics.

The convention, said once for the package: time runs along rows. A trajectory lifted by the dictionary is V (T, F); X
holds the first snapshot of every pair and Y the second, both (N, F), and the operator matrix K acts from the right,
Y ~ X K. (The paper, and PyDMD, put time along columns: their matrix is our transpose, with the same eigenvalues.)
Snapshots may be complex; then X^T is read as the conjugate transpose X*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from relax_rl.errors import DataError
from relax_rl.koopman.inputs import as_tensor, require_real, trajectory_list

__all__ = [
    "GramStatistics",
    "double_of",
    "exclude_nonfinite",
    "gram_from_trajectories",
    "gram_statistics",
    "joined_snapshots",
    "pack_trajectories",
    "paired_snapshots",
    "require_pairs",
    "snapshot_pairs",
]


@dataclass(frozen=True)
class GramStatistics:
    """Sums over snapshot pairs, float64 (complex128): everything a least-squares operator and its residuals need.

    Statistics of disjoint sets of pairs add up (``+``), so they can be gathered in chunks, over shards or over ranks.
    The sums are not divided by the number of pairs.
    """

    gram: Tensor
    """G = X* X, (..., F, F)."""
    cross: Tensor
    """A = X* Y, (..., F, F)."""
    future: Tensor
    """L = Y* Y, (..., F, F)."""
    num_pairs: Tensor
    """Number of snapshot pairs N, (...), int64."""

    @property
    def num_observables(self) -> int:
        """F."""
        return self.gram.shape[-1]

    def __add__(self, other: GramStatistics) -> GramStatistics:
        if self.gram.shape != other.gram.shape:
            raise DataError(
                f"Gram statistics of shapes {tuple(self.gram.shape)} and {tuple(other.gram.shape)} cannot be added; "
                "use the same dictionary and the same number of trajectories for both."
            )
        return GramStatistics(
            self.gram + other.gram,
            self.cross + other.cross,
            self.future + other.future,
            self.num_pairs + other.num_pairs,
        )

    def changed_basis(self, basis: Tensor) -> GramStatistics:
        """Statistics of the observables X C for C (..., F, R): C* G C and so on."""
        return GramStatistics(
            basis.mH @ self.gram @ basis,
            basis.mH @ self.cross @ basis,
            basis.mH @ self.future @ basis,
            self.num_pairs,
        )


def double_of(dtype: torch.dtype) -> torch.dtype:
    """float64, or complex128 for a complex dtype: what everything after the lift is computed in."""
    return torch.complex128 if dtype.is_complex else torch.float64


def snapshot_pairs(mask: Tensor) -> Tensor:
    """The steps that are snapshot pairs: (..., T) bool -> (..., T-1) bool, true at t where t and t+1 are both valid.

    A pair therefore never crosses a hole of the mask.
    """
    mask = as_tensor(mask, "The mask")
    if mask.dtype != torch.bool:
        raise DataError(f"The mask of a trajectory must be bool, not {mask.dtype}; use `mask.bool()`.")
    return mask[..., :-1] & mask[..., 1:]


def paired_snapshots(pairs: Tensor) -> Tensor:
    """The snapshots that are in a pair at all: (..., T-1) bool -> (..., T) bool."""
    return torch.nn.functional.pad(pairs, (0, 1)) | torch.nn.functional.pad(pairs, (1, 0))


def joined_snapshots(snapshots: Tensor | Sequence[Tensor], pairs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Snapshots (..., T, F) with their pairs (..., T-1), of one tensor or of a list of trajectories (T_i, F).

    Raises:
        DataError: neither of the two, or pairs that do not belong to the snapshots.
    """
    if isinstance(snapshots, list | tuple) and pairs is None:
        snapshots, pairs = pack_trajectories(snapshots)
    snapshots = as_tensor(snapshots, "snapshots")
    return snapshots, require_pairs(snapshots, pairs)


def require_pairs(snapshots: Tensor, pairs: Tensor | None) -> Tensor:
    """The pairs given, or all neighbours; a DataError where they do not belong to the snapshots."""
    if snapshots.ndim < 2 or snapshots.shape[-2] < 2 or snapshots.shape[-1] < 1:
        raise DataError(f"Snapshots must be (..., T, F) with T >= 2 and F >= 1, got {tuple(snapshots.shape)}.")
    if pairs is None:
        pairs = torch.ones(snapshots.shape[:-1], dtype=torch.bool, device=snapshots.device)[..., 1:]
    pairs = as_tensor(pairs, "pairs")
    if pairs.dtype != torch.bool or pairs.shape != (*snapshots.shape[:-2], snapshots.shape[-2] - 1):
        raise DataError(
            f"pairs must be bool (..., T-1) beside snapshots (..., T, F), got {pairs.dtype} {tuple(pairs.shape)} "
            f"beside {tuple(snapshots.shape)}."
        )
    return pairs


def exclude_nonfinite(states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take out the trajectories that hold a NaN or Inf at a valid token.

    Args:
        states: (B, T, H), any floating dtype. What stands at masked positions is ignored, NaN included.
        mask: (B, T) bool.

    Returns:
        The states, in which, if any is not finite, every unused entry is zero *before* anything is computed from it (a
        NaN that meets a zero weight later would still be NaN, in the value and in the gradient); the mask without the
        trajectories taken out; and (B,) bool, true for each of those.
    """
    states, mask = require_real(as_tensor(states, "States"), "States"), as_tensor(mask, "The mask")
    if mask.shape != states.shape[:-1] or states.ndim < 2:
        raise DataError(f"The mask must be {tuple(states.shape[:-1])} as the states are, got {tuple(mask.shape)}.")
    # One read of the states: a sum is finite only if its terms are (or overflow float32, which no lift survives).
    is_bad_token = ~torch.isfinite(states.detach().sum(-1, dtype=torch.float32))
    if not is_bad_token.any():
        return states, mask, mask.new_zeros(mask.shape[0])
    is_nonfinite = (is_bad_token & mask).any(-1)
    kept = mask & ~is_nonfinite.unsqueeze(-1)
    return torch.where(kept.unsqueeze(-1), states, 0.0), kept, is_nonfinite


def gram_statistics(
    lifted: Tensor, pairs: Tensor, *, chunk_size: int | None = None, needs_future: bool = True
) -> GramStatistics:
    """Gram statistics of a batch of lifted trajectories, each on its own.

    Args:
        lifted: (B, T, F) lifted states, finite (see :func:`exclude_nonfinite`).
        pairs: (B, T-1) bool, from :func:`snapshot_pairs`.
        chunk_size: number of pairs taken at a time along T; bounds the float64 copies. None takes all at once.
        needs_future: False leaves L out (NaN in its place) and with it a third of the work; K is made of G and A alone.

    Returns:
        Statistics with batch shape (B,), float64 or complex128, differentiable with respect to `lifted`.
    """
    if lifted.ndim != 3 or lifted.shape[2] < 1 or pairs.shape != (lifted.shape[0], max(lifted.shape[1] - 1, 0)):
        raise DataError(
            "Lifted states must be (B, T, F) with F >= 1 and pairs (B, T-1), "
            f"got {tuple(lifted.shape)} and {tuple(pairs.shape)}."
        )
    if chunk_size is not None and chunk_size < 1:
        raise DataError(f"chunk_size must be at least 1, got {chunk_size}; use None to take all pairs at once.")
    with torch.autocast(lifted.device.type, enabled=False):
        # Autocast leaves float64 alone today; nothing here is to rest on that.
        gram, cross, future = _PairSums.apply(lifted, pairs, chunk_size, needs_future)  # type: ignore[misc]
    return GramStatistics(gram, cross, future, pairs.sum(-1))


class _PairSums(torch.autograd.Function):
    """Sums over pairs of x* x, x* y and y* y, each block of steps made float64 once and never kept.

    Autograd would keep float64 copies of every operand, and multiply once for each of the three sums and each of their
    two factors; the gradients of X and Y share theirs: dX = X (dG + dG*) + Y dA* and dY = X dA + Y (dL + dL*).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, lifted: Tensor, pairs: Tensor, chunk_size: int | None, needs_future: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = (lifted.shape[0], lifted.shape[2], lifted.shape[2])
        gram, cross, future = (lifted.new_zeros(shape, dtype=double_of(lifted.dtype)) for _ in range(3))
        # Masking copies both blocks. Without a hole they stay views.
        keep = None if bool(pairs.all()) else pairs.unsqueeze(-1)
        for start, stop in _blocks(pairs.shape[1], chunk_size):
            x, y = _pair_block(lifted, keep, start, stop)
            gram.baddbmm_(x.mH, x)
            cross.baddbmm_(x.mH, y)
            if needs_future:
                future.baddbmm_(y.mH, y)
        if not needs_future:
            # NaN and not zero: with L = 0 a residual would look better than it is.
            future.fill_(torch.nan)
            ctx.mark_non_differentiable(future)
        ctx.save_for_backward(lifted, keep)
        ctx.chunk_size = chunk_size
        ctx.set_materialize_grads(False)
        return gram, cross, future

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad_gram: Tensor | None, grad_cross: Tensor | None, grad_future: Tensor | None
    ) -> tuple[Tensor, None, None, None]:
        lifted, keep = ctx.saved_tensors
        blocks = _blocks(lifted.shape[1] - 1, ctx.chunk_size)
        gradient = torch.zeros_like(lifted)
        # Of the last block, to its last snapshot, which is also the first of the next one: summed in double and rounded
        # once, as a snapshot collects a term for each pair and each sum that it is in.
        carried: Tensor | None = None
        for start, stop in blocks:
            x, y = _pair_block(lifted, keep, start, stop)
            shape = (lifted.shape[0], stop - start + 1, lifted.shape[2])
            block = lifted.new_zeros(shape, dtype=double_of(lifted.dtype))
            # Added in place: a product of its own is as large as the block, and to write and read it takes as long.
            of_first, of_second = block[:, :-1], block[:, 1:]
            if grad_gram is not None:
                of_first.baddbmm_(x, grad_gram + grad_gram.mH)
            if grad_cross is not None:
                of_first.baddbmm_(y, grad_cross.mH)
                of_second.baddbmm_(x, grad_cross)
            if grad_future is not None:
                of_second.baddbmm_(y, grad_future + grad_future.mH)
            if len(blocks) == 1:
                return block.to(lifted.dtype), None, None, None
            if carried is not None:
                block[:, 0] += carried
            gradient[:, start : stop + 1] = block
            carried = block[:, -1].clone()
        return gradient, None, None, None


def _blocks(num_steps: int, size: int | None) -> list[tuple[int, int]]:
    size = size or max(num_steps, 1)
    return [(start, min(start + size, num_steps)) for start in range(0, num_steps, size)]


def _pair_block(lifted: Tensor, keep: Tensor | None, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """X and Y (B, stop - start, F) of some steps, in double precision, zero where there is no pair.

    Where `keep` is None all are pairs.
    """
    # Below, `where` and not a product with the mask: padding may hold NaN, and NaN times zero is NaN.
    block = lifted[:, start : stop + 1].to(double_of(lifted.dtype))
    x, y = block[:, :-1], block[:, 1:]
    return (
        (x, y) if keep is None else (torch.where(keep[:, start:stop], x, 0.0), torch.where(keep[:, start:stop], y, 0.0))
    )


def pack_trajectories(trajectories: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Lay ragged trajectories end to end.

    Args:
        trajectories: non-empty list of (T_i, H) tensors of one width, or one (T, H); a trajectory may be empty.

    Returns:
        States (sum T_i, H) and pairs (sum T_i - 1,) bool that never join two trajectories.

    Raises:
        DataError: no trajectory, or trajectories that are not (T_i, H) with one H.
    """
    trajectories = trajectory_list(trajectories)
    states = torch.cat(trajectories)
    lengths = torch.tensor([len(trajectory) for trajectory in trajectories], device=states.device)
    owner = torch.repeat_interleave(torch.arange(len(trajectories), device=states.device), lengths)
    return states, owner[:-1] == owner[1:]


def gram_from_trajectories(trajectories: Tensor | Sequence[Tensor], lift: Callable[[Tensor], Tensor]) -> GramStatistics:
    """Pooled Gram statistics, batch shape (), of ragged trajectories (T_i, H) lifted by `lift`, (N, H) -> (N, F)."""
    states, pairs = pack_trajectories(trajectories)
    pooled = gram_statistics(lift(states).unsqueeze(0), pairs.unsqueeze(0))
    return GramStatistics(pooled.gram[0], pooled.cross[0], pooled.future[0], pooled.num_pairs[0])
