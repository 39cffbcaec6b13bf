"""Optimal assignment of many small cost matrices at once."""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.errors import DataError

__all__ = ["optimal_assignment"]


def optimal_assignment(cost: Tensor) -> Tensor:
    """The column of each row, all different, whose costs have the smallest sum; exact, for a whole batch together.

    Shortest augmenting paths with dual prices (Jonker and Volgenant 1987; the rectangular form of Crouse 2016): rows
    enter one by one, each by the cheapest chain of reassignments. O(n^2 m) a matrix, every step one operation on the
    batch, so that thousands of matrices of six modes take milliseconds.

    Args:
        cost: (..., n, m) finite, n <= m.

    Returns:
        (..., n) int64. Among assignments of equal cost any may be returned.

    Raises:
        DataError: more rows than columns, or a cost that is NaN or Inf.
    """
    if cost.ndim < 2 or cost.shape[-2] > cost.shape[-1]:
        raise DataError(f"Costs must be (..., n, m) with n <= m, got {tuple(cost.shape)}; transpose them.")
    if not torch.isfinite(cost).all():
        raise DataError("A cost is NaN or Inf; leave out the points that it comes from.")
    size = cost.shape[-2]
    # Prices are sums and differences of costs. In float32 they round, and of two assignments that are nearly tied the
    # worse could be returned.
    flat = cost.detach().reshape(-1, *cost.shape[-2:]).double()
    if flat.numel() == 0:
        return cost.new_zeros(cost.shape[:-1], dtype=torch.long)
    search = _Search(flat)
    for row in range(size):
        search.admit(row)
    return search.columns.view(cost.shape[:-1])


class _Search:
    """Partial assignments of a batch of cost matrices (B, n, m), optimal for the rows admitted so far."""

    def __init__(self, cost: Tensor) -> None:
        self.cost = cost
        batch, num_rows, num_columns = cost.shape
        self.row_prices = cost.new_zeros((batch, num_rows))
        self.column_prices = cost.new_zeros((batch, num_columns))
        self.columns = torch.full((batch, num_rows), -1, device=cost.device)
        """Column of each row, -1 while it has none."""
        self.owners = torch.full((batch, num_columns), -1, device=cost.device)
        """Row of each column, -1 while it is free."""
        self.batch = torch.arange(batch, device=cost.device)

    def admit(self, row: int) -> None:
        """Assign one row more, moving others along the cheapest path to a free column."""
        batch, num_columns = self.owners.shape
        distance = self.cost.new_full((batch, num_columns), torch.inf)
        came_from = torch.zeros_like(self.owners)
        is_scanned = torch.zeros_like(self.owners, dtype=torch.bool)
        length = self.cost.new_zeros(batch)
        current = torch.full_like(self.batch, row)
        end = torch.full_like(self.batch, -1)
        for _ in range(row + 1):  # each step scans a column that an admitted row owns, or ends
            is_open = end < 0
            prices = self.row_prices.gather(1, current.unsqueeze(1)) + self.column_prices
            reached = length.unsqueeze(1) + self.cost[self.batch, current] - prices
            is_shorter = (reached < distance) & ~is_scanned & is_open.unsqueeze(1)
            distance = torch.where(is_shorter, reached, distance)
            came_from = torch.where(is_shorter, current.unsqueeze(1), came_from)
            # The distances of scanned columns are kept for the price update, but must not win again.
            nearest, column = distance.masked_fill(is_scanned, torch.inf).min(1)
            # The problems of a batch end at different steps; one that has ended keeps its length.
            length = torch.where(is_open, nearest, length)
            is_scanned[self.batch[is_open], column[is_open]] = True
            owner = self.owners.gather(1, column.unsqueeze(1)).squeeze(1)
            end = torch.where(is_open & (owner < 0), column, end)
            current = torch.where(is_open & (owner >= 0), owner, current)
            if bool((end >= 0).all()):
                break
        self._update_prices(row, distance, is_scanned, length)
        self._reassign(row, came_from, end)

    def _update_prices(self, row: int, distance: Tensor, is_scanned: Tensor, length: Tensor) -> None:
        """Keep the reduced costs of assigned entries at zero and all others non-negative."""
        slack = torch.where(is_scanned, length.unsqueeze(1) - distance, 0.0)
        self.column_prices -= slack
        owned = is_scanned & (self.owners >= 0)
        # A free column has the owner -1, which would index the last row: clamped here, and given no share.
        self.row_prices.scatter_add_(1, self.owners.clamp_min(0), torch.where(owned, slack, 0.0))
        self.row_prices[:, row] += length

    def _reassign(self, row: int, came_from: Tensor, end: Tensor) -> None:
        """Walk the path back from its free column, giving each column to the row that reached it."""
        column, is_open = end, torch.ones_like(end, dtype=torch.bool)
        while bool(is_open.any()):
            rows, ours = self.batch[is_open], column[is_open]
            owner = came_from[rows, ours]
            self.owners[rows, ours] = owner
            # Read before it is overwritten: the column that this row gives up is the next on the path.
            following = self.columns[rows, owner]
            self.columns[rows, owner] = ours
            column = column.index_put((rows,), following)
            is_open = is_open.index_put((rows,), owner != row)
