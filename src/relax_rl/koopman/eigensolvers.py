"""Eigenvalues of many small matrices: LAPACK takes a batch one by one, so here the batch is split over threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["eig", "eigh", "lapack_on_one_thread"]

# Fewer matrices than this for each thread are not worth starting one.
_MATRICES_PER_THREAD = 4


def eig(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., F) and unit right eigenvectors (..., F, F) of square matrices (..., F, F), without gradient.

    Computed on the CPU, where a batch of small non-symmetric matrices is faster than on a GPU, in float64 (complex128);
    returned there.
    """
    dtype = torch.complex128 if matrices.is_complex() else torch.float64
    return _split(torch.linalg.eig, matrices.detach().to("cpu", dtype))


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
                parts = list(pool.map(solve, flat.chunk(num_parts)))
            values, vectors = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)


@contextmanager
def lapack_on_one_thread() -> Iterator[None]:
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
