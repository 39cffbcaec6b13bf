"""Spectra without a fit: growth rates of a map that can be differentiated, by Jacobian-vector products.

They are the reference for every fitted spectrum of the same map. Where a Koopman operator was fitted on the states of a
linear map, log |eigenvalues| and Lyapunov exponents agree; where the map is not linear they answer different questions:
exponents say how fast neighbouring states part, eigenvalues how observables advance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import as_tensor

__all__ = [
    "LeadingEigenvalues",
    "LyapunovExponents",
    "exponents_of_products",
    "leading_eigenvalues",
    "leading_singular_values",
    "lyapunov_exponents",
    "singular_values_of_jacobian",
]

Step = Callable[[Tensor], Tensor]
"""A map of states (H,) -> (H,), differentiable by `torch.func`."""

Product = Callable[[Tensor], Tensor]
"""A matrix (H, H) by what it does to a frame: (H, K) -> (H, K), float64."""

_OVERSAMPLING = 4
"""Directions that a subspace iteration carries beyond those asked for: the ratio to the first left out is its speed."""


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
    frame = _first_frame(size, count, seed).to(state).expand(*state.shape[:-1], size, count)
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
    # One pass backwards through the map serves every vector of every iteration.
    _, pull_back, *_ = vjp(step, state)

    def pulled(column: Tensor) -> Tensor:
        return pull_back(column)[0]

    def push(frame: Tensor) -> Tensor:
        return _carried(step, state, frame)[1]

    adjoint = vmap(pulled, in_dims=1, out_dims=1)
    return leading_singular_values(push, adjoint, state, count=count, iterations=iterations, seed=seed)


def leading_singular_values(
    push: Product, pull: Product, like: Tensor, *, count: int, iterations: int = 30, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The same of a matrix that is known by its products alone.

    Args:
        push: V -> J V.
        pull: U -> J* U.
        like: (H,), of the dtype and device of the products.
        count, iterations, seed: as in :func:`singular_values_of_jacobian`.

    Raises:
        DataError: products that are not finite.
    """
    frame = _first_frame(len(like), count, seed).to(like)
    for _ in range(iterations):
        frame = torch.linalg.qr(pull(torch.linalg.qr(push(frame)).Q)).Q
    pushed = push(frame)
    if not bool(torch.isfinite(pushed).all()):
        raise DataError("The Jacobian at this state holds NaN or Inf; take another state.")
    _, values, right = torch.linalg.svd(pushed, full_matrices=False)
    vectors = frame @ right.mH
    return values, torch.linalg.eigvals(vectors.mH @ pushed @ right.mH)


@dataclass(frozen=True)
class LeadingEigenvalues:
    """Eigenvalues of a matrix that is known by its products, each with what is missing to an eigenpair."""

    values: Tensor
    """(K,) complex128, largest modulus first."""
    residuals: Tensor
    """(K,) |J v - lambda v| for the unit vector v found: large where the iteration has not converged, as it does not
    between eigenvalues of nearly one modulus."""


def leading_eigenvalues(
    push: Product, size: int, *, count: int, iterations: int = 60, seed: int = 0
) -> LeadingEigenvalues:
    """The eigenvalues of largest modulus, by orthogonal iteration (Golub and Van Loan, "Matrix Computations", 7.3.2).

    Args:
        push: V -> J V, (H, K) -> (H, K).
        size: H.
        count: K; four more directions are carried, as far as H allows.
        iterations: products with J.
        seed: seed of the first frame.

    Raises:
        ConfigError: a count outside 1..H, or no iteration.
        DataError: products that are not finite.
    """
    if not 1 <= count <= size or iterations < 1:
        raise ConfigError(f"count must lie in 1..{size} and iterations be positive, got {count} and {iterations}.")
    frame = _first_frame(size, min(count + _OVERSAMPLING, size), seed)
    pushed = push(frame).double()
    for _ in range(iterations):
        frame = torch.linalg.qr(pushed).Q
        pushed = push(frame).double()
    if not bool(torch.isfinite(pushed).all()):
        raise DataError("The Jacobian at this state holds NaN or Inf; take another state.")
    values, vectors = torch.linalg.eig(frame.mT @ pushed)
    order = values.abs().argsort(descending=True, stable=True)[:count]
    values, vectors = values[order], vectors[:, order]
    missing = pushed.to(vectors.dtype) @ vectors - frame.to(vectors.dtype) @ vectors * values
    return LeadingEigenvalues(values, torch.linalg.vector_norm(missing, dim=0))


def exponents_of_products(
    pushes: Iterable[Product], size: int, *, count: int, warm_up: int = 0, seed: int = 0
) -> Tensor:
    """Growth of a frame along a sequence of Jacobians, each known by its products: log stretches of every step.

    For maps that change from step to step, such as a language model whose context grows. The mean over steps is the
    finite-time exponents of :func:`lyapunov_exponents`, whose steps are all of one map.

    Args:
        pushes: in order of time, (H, K) -> (H, K) each; read one by one.
        size: H.
        count: K.
        warm_up: first steps, in which the frame finds its directions; not returned.
        seed: seed of the first frame.

    Returns:
        (N, K) float64, log |r_kk| of each step; -inf where the map collapses a direction.

    Raises:
        ConfigError: a count outside 1..H.
        DataError: no step is left, or a product is not finite.
    """
    if not 1 <= count <= size or warm_up < 0:
        raise ConfigError(f"count must lie in 1..{size} and warm_up not be negative, got {count} and {warm_up}.")
    frame = _first_frame(size, count, seed)
    stretches = []
    for number, push in enumerate(pushes):
        frame, triangle = torch.linalg.qr(push(frame).double())
        if not bool(torch.isfinite(triangle).all()):
            raise DataError(f"The Jacobian of step {number + 1} holds NaN or Inf.")
        if number >= warm_up:
            stretches.append(triangle.diagonal().abs().log())
    if not stretches:
        raise DataError(f"No step is left after a warm-up of {warm_up}; give a longer trajectory.")
    return torch.stack(stretches)


def _first_frame(size: int, count: int, seed: int) -> Tensor:
    """Orthonormal columns (H, K), float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn((size, count), generator=generator, dtype=torch.float64)).Q


def _carried(step: Step, state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """The next state (H,) and the frame (H, K) after the Jacobian at this one."""

    def along(column: Tensor) -> tuple[Tensor, Tensor]:
        moved, carried, *_ = jvp(step, (state,), (column,))
        return moved, carried

    moved, carried = vmap(along, in_dims=1, out_dims=(0, 1))(frame)
    return moved[0], carried
