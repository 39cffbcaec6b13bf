"""Spectra without a fit: growth rates of a map that can be differentiated, by Jacobian-vector products.

They are the reference for every fitted spectrum of the same map. Where a Koopman operator was fitted on the states of a
linear map, log |eigenvalues| and Lyapunov exponents agree; where the map is not linear they answer different questions:
exponents say how fast neighbouring states part, eigenvalues how observables advance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor

__all__ = ["LyapunovExponents", "lyapunov_exponents", "singular_values_of_jacobian"]

Step = Callable[[Tensor], Tensor]
"""A map of states (H,) -> (H,), differentiable by `torch.func`."""


@dataclass(frozen=True)
class LyapunovExponents:
    """Exponents along one trajectory, or each of a batch, and how they settled."""

    values: Tensor
    """(..., K) float64, per step, largest first. The mean over a batch of starts on one attractor is its exponents, and
    their spread over the square root of the batch is the standard error."""
    history: Tensor
    """(N, ..., K) float64: the estimate after each step, in the order of the frame; its end is `values` unsorted."""
    state: Tensor
    """(..., H) after the last step, from which a run can be continued."""


def lyapunov_exponents(
    step: Step, state: Tensor, *, num_steps: int, count: int | None = None, warm_up: int = 0, seed: int = 0
) -> LyapunovExponents:
    """Finite-time Lyapunov exponents of a map, by QR of a frame that the Jacobian carries along (Benettin et al. 1980).

    Args:
        step: the map; for a flow, one step of an integrator (then divide the exponents by its dt).
        state: (H,) to start from, or a batch (B, H) of starts, which take little longer than one; computed in its own
            dtype, which should be float64.
        num_steps: steps over which the growth is averaged.
        count: K, how many of the largest exponents; None: all H.
        warm_up: steps before, in which the state reaches its attractor and the frame its directions.
        seed: seed of the first frame.

    Raises:
        ConfigError: a number out of range.
        DataError: a state that is not (H,) or (B, H) floating, or that leaves the finite numbers.
    """
    state = as_tensor(state, "The state")
    if state.ndim not in (1, 2) or not state.is_floating_point():
        raise DataError(f"The state must be a floating (H,) or (B, H), got {tuple(state.shape)} {state.dtype}.")
    size = state.shape[-1]
    count = size if count is None else count
    if not 1 <= count <= size or num_steps < 1 or warm_up < 0:
        raise ConfigError(
            f"count must lie in 1..{size}, num_steps be positive and warm_up not negative, got {count}, "
            f"{num_steps} and {warm_up}."
        )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn((size, count), generator=generator, dtype=torch.float64).to(state)
    frame = torch.linalg.qr(start).Q.expand(*state.shape[:-1], size, count)
    total = torch.zeros((*state.shape[:-1], count), dtype=torch.float64, device=state.device)
    carry = partial(_carried, step)
    advance = carry if state.ndim == 1 else vmap(carry)
    history = []
    for index in range(warm_up + num_steps):
        state, carried = advance(state, frame)
        frame, triangle = torch.linalg.qr(carried)
        if not bool(torch.isfinite(state).all() & torch.isfinite(triangle).all()):
            raise DataError(f"A trajectory left the finite numbers at step {index + 1}; start nearer to its attractor.")
        if index >= warm_up:
            # A direction that the map collapses has a growth of -inf, which is right, and stays.
            total = total + triangle.diagonal(dim1=-2, dim2=-1).abs().double().log()
            history.append(total / (index - warm_up + 1))
    settled = torch.stack(history)
    return LyapunovExponents(settled[-1].sort(-1, descending=True).values, settled, state)


def singular_values_of_jacobian(
    step: Step, state: Tensor, *, count: int, iterations: int = 30, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The leading singular values of the Jacobian at a state, and the eigenvalues of its part on their right vectors.

    By subspace iteration with products J v and J* u alone, so that the Jacobian (H, H) is never formed.

    Args:
        step: the map.
        state: (H,).
        count: K.
        iterations: number of steps of the subspace iteration; each takes K products with J and K with J*. Singular
            values that are nearly equal to the next one converge slowly.
        seed: seed of the first subspace.

    Returns:
        (K,) singular values, descending, in the dtype of the state; and (K,) complex eigenvalues of V* J V.

    Raises:
        ConfigError: a count outside 1..H, or no iteration.
        DataError: a state or a Jacobian that is not finite.
    """
    state = as_tensor(state, "The state")
    if state.ndim != 1 or not state.is_floating_point() or not bool(torch.isfinite(state).all()):
        raise DataError(f"The state must be a finite floating (H,), got {tuple(state.shape)} {state.dtype}.")
    if not 1 <= count <= len(state) or iterations < 1:
        raise ConfigError(
            f"count must lie in 1..{len(state)} and iterations be positive, got {count} and {iterations}."
        )
    generator = torch.Generator().manual_seed(seed)
    frame = torch.randn((len(state), count), generator=generator, dtype=torch.float64).to(state)
    frame = torch.linalg.qr(frame).Q
    # One pass backwards through the map serves every vector of every iteration.
    _, pull_back, *_ = vjp(step, state)

    def pulled(column: Tensor) -> Tensor:
        return pull_back(column)[0]

    adjoint = vmap(pulled, in_dims=1, out_dims=1)
    for _ in range(iterations):
        _, pushed = _carried(step, state, frame)
        frame = torch.linalg.qr(adjoint(torch.linalg.qr(pushed).Q)).Q
    _, pushed = _carried(step, state, frame)
    if not bool(torch.isfinite(pushed).all()):
        raise DataError("The Jacobian at this state holds NaN or Inf; take another state.")
    _, values, right = torch.linalg.svd(pushed, full_matrices=False)
    vectors = frame @ right.mH
    return values, torch.linalg.eigvals(vectors.mH @ pushed @ right.mH)


def _carried(step: Step, state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """The next state (H,) and the frame (H, K) after the Jacobian at this one."""

    def along(column: Tensor) -> tuple[Tensor, Tensor]:
        moved, carried, *_ = jvp(step, (state,), (column,))
        return moved, carried

    moved, carried = vmap(along, in_dims=1, out_dims=(0, 1))(frame)
    return moved[0], carried
