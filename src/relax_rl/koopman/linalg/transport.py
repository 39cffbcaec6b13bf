"""Optimal transport between two uniform measures of different sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.errors import DataError

__all__ = ["uniform_transport"]


def uniform_transport(cost: Tensor) -> Tensor:
    """The plan of least cost from n points of weight 1/n to m points of weight 1/m, exact, (n, m) float64.

    Successive shortest augmenting paths with prices (the assignment of Jonker and Volgenant, with amounts): every row
    has m units to give and every column takes n, so that all amounts are whole and the end is reached exactly.

    Args:
        cost: (n, m) finite, not negative.

    Raises:
        DataError: a cost that is not a finite matrix.
    """
    if cost.ndim != 2 or 0 in cost.shape or not bool(torch.isfinite(cost).all()):
        raise DataError(
            f"Costs must be a finite (n, m), got {tuple(cost.shape)}; leave out points that are NaN or Inf."
        )
    flow = _Flow(cost.detach().to("cpu", torch.float64))
    while bool((flow.supply > 0).any()):
        flow.augment()
    return (flow.amount.double() / (cost.shape[0] * cost.shape[1])).to(cost.device)


class _Flow:
    """Whole amounts on their way from rows to columns, cheapest for what was sent so far."""

    def __init__(self, cost: Tensor) -> None:
        rows, columns = cost.shape
        self.supply, self.demand = torch.full((rows,), columns), torch.full((columns,), rows)
        self.amount = torch.zeros((rows, columns), dtype=torch.long)
        # With these prices no reduced cost is negative, which shortest paths need.
        self.row_price = cost.amin(1)
        self.column_price = torch.zeros(columns, dtype=torch.float64)
        self.cost = cost

    def augment(self) -> None:
        """Send as much as fits along the cheapest path from rows that have some to a column that wants some."""
        inf = torch.inf
        reduced = (self.cost - self.row_price.unsqueeze(1) - self.column_price).clamp_min(0.0)
        to_row = torch.where(self.supply > 0, 0.0, inf).double()
        row_done = self.supply > 0
        start = row_done.nonzero().squeeze(-1)
        best, which = reduced[start].min(0)
        to_column, from_row = best, start[which]
        column_done = torch.zeros(len(self.demand), dtype=torch.bool)
        from_column = torch.full((len(self.supply),), -1)
        while True:
            column = int(torch.where(column_done, inf, to_column).argmin())
            column_done[column] = True
            if self.demand[column] > 0:
                break
            # Back along what flows into the full column, at no cost, to rows that could send it elsewhere.
            rows = ((self.amount[:, column] > 0) & ~row_done).nonzero().squeeze(-1)
            if not len(rows):
                continue
            row_done[rows], from_column[rows], to_row[rows] = True, column, to_column[column]
            candidates, which = (to_column[column] + reduced[rows]).min(0)
            is_better = (candidates < to_column) & ~column_done
            to_column = torch.where(is_better, candidates, to_column)
            from_row = torch.where(is_better, rows[which], from_row)
        length = to_column[column]
        self.row_price += torch.where(row_done, length - to_row, 0.0)
        self.column_price -= torch.where(column_done, length - to_column, 0.0)
        self._send(column, from_row, from_column)

    def _send(self, column: int, from_row: Tensor, from_column: Tensor) -> None:
        steps: list[tuple[int, int]] = []
        back: list[tuple[int, int]] = []
        end = column
        while True:
            row = int(from_row[end])
            steps.append((row, end))
            if from_column[row] < 0:
                break
            end = int(from_column[row])
            back.append((row, end))
        sent = min([int(self.supply[row]), int(self.demand[column]), *(int(self.amount[i, j]) for i, j in back)])
        for i, j in steps:
            self.amount[i, j] += sent
        for i, j in back:
            self.amount[i, j] -= sent
        self.supply[row] -= sent
        self.demand[column] -= sent
