"""Dynamics that are driven: fitted with known inputs, and asked what a push does to them.

DMD with control fits z_{t+1} = z_t A + u_t B (Proctor, Brunton and Kutz 2016). The controllability Gramian of A and B
says where inputs can drive the state, and the impulse response says when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor, trajectory_list
from relax_rl.koopman.linalg.ranks import Rank, check_rank
from relax_rl.koopman.operators.reduction import reduce_snapshots
from relax_rl.koopman.pairs.snapshots import double_of, joined_snapshots
from relax_rl.koopman.spectra.dmd import DynamicModes, modes_of_operator

__all__ = ["ControlledModes", "controllability_gramian", "dmd_with_control", "impulse_response"]

_MOST_DOUBLINGS = 64


@dataclass(frozen=True)
class ControlledModes:
    """The spectrum of the dynamics without input, and what the inputs add at each step."""

    modes: DynamicModes
    """Modes of A."""
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


def controllability_gramian(operator: Tensor, control: Tensor, *, horizon: int | None = None) -> Tensor:
    """W = sum_k (B A^k)* (B A^k), for z_{t+1} = z_t A + u_t B: how far inputs of unit energy drive the state.

    The least energy of inputs that reach z from rest is z W^+ z*, and the trace of W is the energy that unit impulses
    leave in the states of all times (Kailath 1980, "Linear Systems", 9.2; average controllability in networks).

    Args:
        operator: A (F, F), real or complex, acting from the right.
        control: B (U, F): one row an input; a steering direction (F,) is one input.
        horizon: N, the number of terms; None: infinitely many, for which the spectral radius must be below 1.

    Returns:
        (F, F) float64 or complex128, Hermitian, positive semi-definite.

    Raises:
        DataError: shapes that do not belong together, NaN or Inf.
        ConfigError: a horizon below 1; an infinite one of an operator that does not decay.
    """
    matrix, rows = _driven(operator, control)
    if horizon is not None:
        if horizon < 1:
            raise ConfigError(f"horizon must be at least 1 step, or None for infinitely many, got {horizon}.")
        responses = impulse_response(matrix, rows, horizon).flatten(0, 1)
        return responses.mH @ responses
    radius = float(torch.linalg.eigvals(matrix).abs().max())
    if radius >= 1:
        raise ConfigError(
            f"The operator has a spectral radius of {radius:.4g}, so that a push never dies out and the infinite "
            "Gramian does not exist; give a horizon."
        )
    gramian, power = rows.mH @ rows, matrix
    # W_2n = W_n + (A^n)* W_n A^n: twice as many terms with every product.
    for _ in range(_MOST_DOUBLINGS):
        added = power.mH @ gramian @ power
        gramian, power = gramian + added, power @ power
        if bool(torch.linalg.matrix_norm(added) <= torch.finfo(torch.float64).eps * torch.linalg.matrix_norm(gramian)):
            break
    return 0.5 * (gramian + gramian.mH)


def impulse_response(operator: Tensor, control: Tensor, steps: int) -> Tensor:
    """B A^k for k = 0, ..., steps - 1, (steps, U, F): what the state differs by, k steps after a unit push.

    A push that goes on differs by the cumulative sum. Errors are those of :func:`controllability_gramian`.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}.")
    matrix, rows = _driven(operator, control)
    responses = [rows]
    for _ in range(steps - 1):
        responses.append(responses[-1] @ matrix)
    return torch.stack(responses)


def _driven(operator: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """A (F, F) and B (U, F) in double precision."""
    operator, control = as_tensor(operator, "The operator"), as_tensor(control, "The control")
    rows = control.unsqueeze(0) if control.ndim == 1 else control
    if operator.ndim != 2 or operator.shape[0] != operator.shape[1] or rows.ndim != 2 or rows.shape[1] != len(operator):
        raise DataError(
            f"The operator must be (F, F) and the control (U, F) or (F,), got {tuple(operator.shape)} and "
            f"{tuple(control.shape)}."
        )
    dtype = double_of(torch.promote_types(operator.dtype, rows.dtype))
    matrix, rows = operator.detach().to(dtype), rows.detach().to(dtype)
    if not bool(torch.isfinite(matrix).all() and torch.isfinite(rows).all()):
        raise DataError("The operator or the control holds NaN or Inf.")
    return matrix, rows
