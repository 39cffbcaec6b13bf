"""The directions of many rows: the leading ones through the Gram matrix of the short side, or all above rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.koopman.linalg.eigensolvers import eigh

__all__ = ["leading_directions", "row_space"]


def leading_directions(rows: Tensor, rank: int) -> Tensor:
    """Right singular vectors (..., F, R) of rows (..., N, F) float64, the largest last; R = min(rank, N, F).

    For where all there is to know is the subspace, a few directions of many: a product, an eigendecomposition of the
    smaller Gram matrix and no other singular vector. The directions of the smallest singular values are lost to
    rounding once these fall below sqrt(eps) of the largest, but the columns are orthonormal in any case.
    """
    is_wide = rows.shape[-2] < rows.shape[-1]
    _, vectors = eigh(rows @ rows.mT if is_wide else rows.mT @ rows)
    leading = vectors[..., -rank:]
    # By QR, not by dividing by the singular values: at rounding these would blow noise up, and the columns would not be
    # orthonormal.
    return torch.linalg.qr(rows.mT @ leading).Q if is_wide else leading


def row_space(rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Singular values (R,) of rows (N, F) float64 that are above rounding, and an orthonormal basis (F, R) of their
    directions; None where R = F, as the coordinate axes are one.

    As exact as a singular value decomposition of the rows, in less time: the triangular factor has the same singular
    values and right vectors, and no left one is formed.
    """
    triangle = torch.linalg.qr(rows, mode="r").R
    scales = torch.linalg.svdvals(triangle)
    floor = max(rows.shape) * torch.finfo(torch.float64).eps
    num_kept = int(((scales > floor * scales[:1]) & (scales > 0)).sum())
    if num_kept == rows.shape[-1]:
        return scales, None
    _, _, right = torch.linalg.svd(triangle, full_matrices=False)
    return scales[:num_kept], right[:num_kept].mH
