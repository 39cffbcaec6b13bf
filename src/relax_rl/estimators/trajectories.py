"""Reading trajectories: an array, an array with lengths, or a list of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from relax_rl.errors import DataError

__all__ = ["read_rows", "read_trajectories"]

_DTYPES = [np.float64, np.float32]


def read_trajectories(
    estimator: BaseEstimator, X: Any, lengths: Sequence[int] | None, *, reset: bool = True
) -> list[Tensor]:
    """Trajectories (T_k, H) of float64 or float32, checked as scikit-learn does.

    Args:
        estimator: estimator whose number of features this sets (`reset`, in `fit`) or obeys.
        X: (T, H), or a list of (T_k, H).
        lengths: T_k, which sum to T, where X is one array; None: one trajectory.

    Raises:
        DataError: lengths that do not fit, or with a list.
        ValueError: anything that scikit-learn refuses.
    """
    if _is_list_of_arrays(X):
        if lengths is not None:
            raise DataError("A list of trajectories has its own lengths; leave `lengths` out.")
        lengths = [len(trajectory) for trajectory in X]
    rows = _tensor(validate_data(estimator, _joined(X), dtype=_DTYPES, ensure_min_samples=2, reset=reset))
    sizes = [len(rows)] if lengths is None else [int(length) for length in lengths]
    if sum(sizes) != len(rows) or min(sizes, default=0) < 1:
        raise DataError(f"lengths must be positive and sum to the {len(rows)} rows of X, got {sizes[:8]}.")
    return list(rows.split(sizes))


def read_rows(estimator: BaseEstimator, X: Any) -> Tensor:
    """States (N, H), one a row, for a fitted estimator; of a list of trajectories, one after the other."""
    return _tensor(validate_data(estimator, _joined(X), dtype=_DTYPES, reset=False))


def _is_list_of_arrays(X: Any) -> bool:
    return isinstance(X, list | tuple) and len(X) > 0 and all(getattr(part, "ndim", 0) == 2 for part in X)


def _joined(X: Any) -> Any:
    if isinstance(X, Tensor):
        return _array(X)
    if not _is_list_of_arrays(X):
        return X
    widths = sorted({part.shape[1] for part in X})
    if len(widths) > 1:
        raise DataError(f"Trajectories must all have the same number of features, but have {widths[:4]}.")
    return np.concatenate([_array(part) if isinstance(part, Tensor) else part for part in X])


def _array(states: Tensor) -> np.ndarray:
    """NumPy has no bfloat16 and takes no tensor with a gradient or on an accelerator."""
    states = states.detach().cpu()
    return (states.double() if states.dtype == torch.bfloat16 else states).numpy()


def _tensor(rows: Any) -> Tensor:
    # A copy: torch warns of arrays that may not be written to, and memory maps are such.
    return torch.from_numpy(np.array(rows, order="C"))
