"""DMD with control: dynamics driven by known inputs, z_{t+1} = z_t A + u_t B (Proctor, Brunton and Kutz 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman.inputs import as_tensor, trajectory_list
from relax_rl.koopman.linalg.ranks import Rank, check_rank
from relax_rl.koopman.operators.reduction import reduce_snapshots
from relax_rl.koopman.pairs.snapshots import double_of, joined_snapshots
from relax_rl.koopman.spectra.dmd import DynamicModes, modes_of_operator

__all__ = ["ControlledModes", "dmd_with_control"]


@dataclass(frozen=True)
class ControlledModes:
    """The spectrum of the dynamics without input, and what the inputs add at each step."""

    modes: DynamicModes
    """Of A."""
    operator: Tensor
    """A, (F, F), acting from the right; of the rank that was kept."""
    control: Tensor
    """B, (U, F)."""

    def forecast(self, state: Tensor, inputs: Tensor) -> Tensor:
        """States 1..N after `state` (F,) under inputs (N, U): (N, F)."""
        states = []
        for given in inputs.to(self.control.dtype):
            state = state.to(self.operator.dtype) @ self.operator + given @ self.control
            states.append(state)
        return torch.stack(states)


def dmd_with_control(
    snapshots: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    pairs: Tensor | None = None,
    *,
    rank: Rank = None,
) -> ControlledModes:
    """Fit A and B by least squares of the next snapshot on the snapshot and the input together; without gradient.

    The snapshots are projected onto their leading `rank` directions first, and A and B are fitted there.

    Args:
        snapshots: (T, F), real or complex, or a list of (T_i, F) that share A and B.
        inputs: (T, U), or a list of (T_i, U); u_t acts between t and t + 1, so the last one is not read.
        pairs: (T-1,) bool, which neighbours are snapshot pairs; None: all.
        rank: directions of the snapshots to keep.

    Raises:
        DataError: shapes that do not belong together; NaN or Inf; inputs that cannot be told from the states (an input
            that is a linear function of the state has no effect of its own).
    """
    if isinstance(snapshots, list | tuple) and isinstance(inputs, list | tuple):
        if [len(part) for part in snapshots] != [len(part) for part in inputs]:
            raise DataError("Snapshots and inputs must be lists of as many steps each; give one input a snapshot.")
        inputs = torch.cat(trajectory_list(inputs, "Inputs"))
    inputs = as_tensor(inputs, "inputs")
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    if snapshots.ndim != 2 or inputs.ndim != 2 or len(inputs) != len(snapshots):
        raise DataError(
            f"Snapshots must be (T, F) and inputs (T, U), got {tuple(snapshots.shape)} and {tuple(inputs.shape)}."
        )
    reduction = reduce_snapshots(snapshots, pairs, rank=check_rank(rank, snapshots.shape[-1]))
    assert reduction.first is not None
    assert reduction.second is not None
    dtype = torch.promote_types(reduction.first.dtype, double_of(inputs.dtype))
    acting = torch.where(pairs.unsqueeze(-1), inputs[:-1].detach().to(dtype), torch.zeros((), dtype=dtype))
    if not bool(torch.isfinite(acting).all()):
        raise DataError("The inputs hold NaN or Inf; leave those pairs out.")
    size = acting.abs().amax(0)
    if bool((size == 0).any()):
        raise DataError("An input is zero at every pair, so its effect is unknown; leave it out.")
    regressors = torch.cat([reduction.first.to(dtype), acting / size], -1)
    if int(torch.linalg.matrix_rank(regressors)) < regressors.shape[-1]:
        raise DataError(
            "The inputs are a linear function of the states (or of each other), so that their effects are not "
            "distinct; vary the inputs, give longer trajectories, or keep fewer directions."
        )
    solution = torch.linalg.lstsq(regressors, reduction.second.to(dtype)).solution
    dynamics, control = solution.tensor_split([reduction.first.shape[-1]])
    back = reduction.present.to(dtype)
    return ControlledModes(
        modes=modes_of_operator(reduction, dynamics),
        operator=reduction.coefficients.to(dtype) @ dynamics @ back,
        control=(control / size.unsqueeze(-1)) @ back,
    )
