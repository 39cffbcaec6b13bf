"""Gram statistics of data that come in pieces: any cut into pieces and any order of merging give the same.

The same to rounding, whatever the number of pieces. Plain sums do not do that: an observable that is constant (a bias)
adds the same number at every piece, every addition rounds the same way, and 10^5 pieces were 2e-12 off; so what each
addition rounds off is carried along (Neumaier 1974), in one more matrix for each of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman.inputs import as_tensor, trajectory_list
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of, gram_statistics, snapshot_pairs

__all__ = ["GramStream"]

_BLOCK = 4096


class GramStream:
    """Gram statistics of a stream of trajectories, each given whole or in consecutive pieces.

    Streams over disjoint data (shards, ranks, threads) merge into one.

    Args:
        observables: (..., H) -> (..., F); None: the snapshots are lifted already.
    """

    def __init__(self, observables: Callable[[Tensor], Tensor] | None = None) -> None:
        self.observables = observables
        self._sums: tuple[_CompensatedSum, ...] | None = None
        self._num_pairs = 0
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def num_pairs(self) -> int:
        """Snapshot pairs so far."""
        return self._num_pairs

    def statistics(self) -> GramStatistics:
        """Sums gathered so far, batch shape ().

        Raises:
            DataError: nothing was.
        """
        if self._sums is None:
            raise DataError("Nothing was given to this stream of Gram statistics yet.")
        gram, cross, future = (total.value for total in self._sums)
        return GramStatistics(gram, cross, future, torch.tensor(self._num_pairs, device=gram.device))

    def update(
        self, states: Tensor | Sequence[Tensor], mask: Tensor | None = None, *, is_continuation: bool = False
    ) -> GramStream:
        """Add a piece (T, H) of one trajectory, a batch (B, T, H), or a list of (T_i, H); returns the stream.

        Args:
            states: any floating dtype; what stands where the mask is False is ignored.
            mask: (T,) or (B, T) bool; None: all are valid.
            is_continuation: this piece follows the one before in the same trajectories (the same B of them), so that
                the pair across the cut counts.

        Raises:
            DataError: shapes that do not fit those before, or NaN or Inf in a valid snapshot.
        """
        if isinstance(states, list | tuple) and mask is None:
            for part in trajectory_list(states, "A piece"):
                self.update(part, is_continuation=is_continuation)
            return self
        states = as_tensor(states, "A piece")
        if states.ndim not in (2, 3) or states.shape[-1] < 1:
            raise DataError(f"A piece must be (T, H) or (B, T, H) with H >= 1, got {tuple(states.shape)}.")
        mask = torch.ones(states.shape[:-1], dtype=torch.bool, device=states.device) if mask is None else mask
        mask = as_tensor(mask, "The mask")
        if mask.shape != states.shape[:-1]:
            raise DataError(f"The mask must be {tuple(states.shape[:-1])} as the states are, got {tuple(mask.shape)}.")
        if states.ndim == 2:
            states, mask = states.unsqueeze(0), mask.unsqueeze(0)
        states = torch.where(mask.unsqueeze(-1), states.detach(), torch.zeros((), dtype=states.dtype))
        lifted = states if self.observables is None else self.observables(states)
        if not bool(torch.isfinite(lifted).all()):
            raise DataError("The snapshots hold NaN or Inf; leave that trajectory out (see `exclude_nonfinite`).")
        if is_continuation:
            lifted, mask = self._after_the_last(lifted, mask)
        self._add(lifted, snapshot_pairs(mask))
        # Copies: a view would keep the whole piece alive, and change when the caller fills its buffer again.
        self._last = (lifted[:, -1:].clone(), mask[:, -1:].clone()) if lifted.shape[1] else None
        return self

    def merge(self, other: GramStream) -> GramStream:
        """Add all that another stream gathered; returns this one, in which no trajectory can be continued then.

        Raises:
            DataError: the other has another number of observables.
        """
        if other._sums is not None:
            for mine, theirs in zip(self._sums_like(other._sums[0].total), other._sums, strict=True):
                # Sum and rounding one after the other: added up first, they would be rounded once more.
                mine.add(theirs.total)
                mine.add(theirs.lost)
            self._num_pairs += other._num_pairs
        self._last = None
        return self

    def _after_the_last(self, lifted: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self._last is None:
            raise DataError(
                "There is no piece that this one could continue; give the first with is_continuation=False."
            )
        last, last_mask = self._last
        if len(last) != len(lifted) or last.shape[-1] != lifted.shape[-1]:
            raise DataError(
                f"This piece cannot continue the one before: {tuple(lifted.shape)} lifted after (B, T, F) with B = "
                f"{len(last)} and F = {last.shape[-1]}."
            )
        return torch.cat([last, lifted], 1), torch.cat([last_mask, mask], 1)

    def _add(self, lifted: Tensor, pairs: Tensor) -> None:
        sums = self._sums_like(lifted.new_zeros((lifted.shape[-1],) * 2, dtype=double_of(lifted.dtype)))
        # End to end, with no pair where one trajectory meets the next: one product for the whole batch.
        links = torch.nn.functional.pad(pairs, (0, 1)).flatten()[:-1].unsqueeze(0)
        rows = lifted.flatten(0, 1).unsqueeze(0)
        for start in range(0, links.shape[1], _BLOCK):
            stop = start + _BLOCK
            # One snapshot more than links, the second of the last pair. The links of two blocks are disjoint, so no
            # pair counts twice.
            block = gram_statistics(rows[:, start : stop + 1], links[:, start:stop])
            for total, term in zip(sums, (block.gram, block.cross, block.future), strict=True):
                total.add(term[0])
        self._num_pairs += int(pairs.sum())

    def _sums_like(self, matrix: Tensor) -> tuple[_CompensatedSum, ...]:
        if self._sums is None:
            self._sums = tuple(_CompensatedSum(torch.zeros_like(matrix)) for _ in range(3))
        if self._sums[0].total.shape != matrix.shape:
            raise DataError(
                f"This stream has {len(self._sums[0].total)} observables, what is added to it {len(matrix)}; "
                "use the same dictionary for both."
            )
        return self._sums


class _CompensatedSum:
    """A sum of matrices and, apart, what its additions rounded off."""

    def __init__(self, total: Tensor) -> None:
        self.total = total
        self.lost = torch.zeros_like(total)

    @property
    def value(self) -> Tensor:
        return self.total + self.lost

    def add(self, term: Tensor) -> None:
        """Knuth's two-sum: the rounding of total + term, exactly, whichever is larger (complex: part by part)."""
        total = self.total + term
        virtual = total - self.total
        self.lost += (self.total - (total - virtual)) + (term - virtual)
        self.total = total
