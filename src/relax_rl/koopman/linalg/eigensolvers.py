"""Eigenvalues of many small matrices: LAPACK takes a batch one by one, so here the batch is split over threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError

__all__ = [
    "CPU_EIGENSOLVER_SIZE",
    "EigensolverDevice",
    "eig",
    "eigensolver_device",
    "eigh",
    "lapack_on_one_thread",
    "solver_device",
]

EigensolverDevice = Literal["auto", "cpu", "input"]
"""Device of non-symmetric eigenproblems: "cpu"; "input", the device of the matrices; "auto", the CPU up to
:data:`CPU_EIGENSOLVER_SIZE` and the device of the matrices beyond."""

CPU_EIGENSOLVER_SIZE = 200
"""Torch solves a batch of non-symmetric problems on a GPU one by one, with a synchronisation each: up to about this
size the CPU is faster, transfer included."""

_DEVICE: ContextVar[EigensolverDevice] = ContextVar("eigensolver_device", default="auto")

# Fewer matrices than this for each thread are not worth starting one.
_MATRICES_PER_THREAD = 4


@contextmanager
def eigensolver_device(policy: EigensolverDevice) -> Generator[None]:
    """Run non-symmetric eigenproblems by another policy than "auto" meanwhile, in this thread or task.

    Raises:
        ConfigError: a policy that there is not.
    """
    if policy not in get_args(EigensolverDevice):
        raise ConfigError(
            f"Unknown eigensolver device {policy!r}; use one of {', '.join(get_args(EigensolverDevice))}."
        )
    token = _DEVICE.set(policy)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def solver_device(device: torch.device, size: int) -> torch.device:
    """Device on which the policy in force solves non-symmetric problems of matrices of this size on this device."""
    policy = _DEVICE.get()
    stays = policy == "input" or (policy == "auto" and size > CPU_EIGENSOLVER_SIZE)
    return device if stays else torch.device("cpu")


def eig(matrices: Tensor, *, is_single: bool = False) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., F) and unit right eigenvectors (..., F, F) of square matrices (..., F, F), without gradient.

    Computed in float64 (complex128), or for real matrices in float32 (complex64), on the device that
    :func:`solver_device` names, and returned there.
    """
    # Detached: the gradient of torch.linalg.eig goes through the eigenvectors and divides by differences of
    # eigenvalues. `eigenpairs` has the gradient that stays finite.
    dtype = torch.complex128 if matrices.is_complex() else torch.float32 if is_single else torch.float64
    matrices = matrices.detach().to(solver_device(matrices.device, matrices.shape[-1]), dtype)
    return _split(torch.linalg.eig, matrices) if matrices.device.type == "cpu" else tuple(torch.linalg.eig(matrices))


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues and orthonormal eigenvectors of Hermitian matrices (..., F, F), without gradient.

    On the device of the matrices.
    """
    matrices = matrices.detach()
    return _split(torch.linalg.eigh, matrices) if matrices.device.type == "cpu" else tuple(torch.linalg.eigh(matrices))


def _split(solve: Callable[[Tensor], Iterable[Tensor]], matrices: Tensor) -> tuple[Tensor, Tensor]:
    """`solve` on parts of the batch, each in a thread of its own (it holds no interpreter lock)."""
    num_threads = torch.get_num_threads()
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    num_parts = min(num_threads, max(len(flat) // _MATRICES_PER_THREAD, 1))
    with lapack_on_one_thread():
        if num_parts == 1:
            values, vectors = solve(flat)
        else:
            with ThreadPoolExecutor(num_parts) as pool:
                # `chunk` may return fewer parts than it was asked for; that leaves a thread idle and nothing else.
                parts = list(pool.map(solve, flat.chunk(num_parts)))
            values, vectors = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)


@contextmanager
def lapack_on_one_thread() -> Generator[None]:
    """Torch on one thread meanwhile.

    On matrices of 50 x 50 LAPACK's own threads only wait for each other: they made a batch of 32 twice as slow, and
    many times as slow where other processes want the same cores.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
