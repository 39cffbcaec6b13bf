"""What the toolkit is given: tensors and nothing that only looks like one, real where it must be, in a unit that fits.

Everything is computed in double precision, and most of it through squares: of numbers beyond 1e154 these are Inf, of
numbers below 1e-154 they are 0 or a few digits of it. What is measured here is mostly the same in every unit, so such
data are taken in one that fits, a power of two away, which changes no digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import DataError

__all__ = ["in_its_unit", "require_real", "require_tensor", "trajectory_list"]

_LARGEST_EXPONENT = 256
"""Beyond 2^256, 1e77, and below its inverse, fourth powers and sums of them leave double precision."""


def require_tensor(value: object, name: str) -> Tensor:
    """The value, which must be a tensor.

    Raises:
        DataError: something else; the message says how to make a tensor of it.
    """
    if isinstance(value, Tensor):
        return value
    is_list = isinstance(value, list | tuple)
    way = "torch.stack or pack_trajectories joins tensors" if is_list else "use torch.from_numpy for a NumPy array"
    raise DataError(f"{name} must be a torch tensor, but {type(value).__name__} was given; {way}.")


def require_real(states: Tensor, name: str) -> Tensor:
    """The states, which must not be complex: a conversion to real numbers would drop their imaginary part.

    Raises:
        DataError: complex states.
    """
    if states.is_complex():
        raise DataError(
            f"{name} must be real, but {states.dtype} was given; give real and imaginary part as channels, "
            "torch.view_as_real(x).flatten(-2), or use dmd or koopman_eigenvalues, which take complex data."
        )
    return states


def trajectory_list(trajectories: object, name: str = "Trajectories") -> list[Tensor]:
    """One trajectory (T, H) or several (T_i, H) as a list of them.

    Raises:
        DataError: no trajectory, or something that is no tensor or not (T, H) with H of at least 1 and the same for
            all.
    """
    if isinstance(trajectories, Tensor):
        found = [trajectories]
    elif isinstance(trajectories, Sequence) and not isinstance(trajectories, str):
        found = [
            require_tensor(part, f"Item {place} of a list of trajectories") for place, part in enumerate(trajectories)
        ]
    else:
        found = [require_tensor(trajectories, name)]
    if not found:
        raise DataError("There is no trajectory; give at least one tensor (T, H).")
    if len({part.shape[1:] for part in found}) != 1 or any(part.ndim != 2 or part.shape[1] < 1 for part in found):
        shapes = sorted({tuple(part.shape) for part in found})[:4]
        raise DataError(
            f"{name} must be (T, F), or a list of (T_i, F) with the same F of at least 1; got shapes such as {shapes}."
        )
    return found


def in_its_unit(values: Tensor, dims: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Values divided by a unit, and that unit: 1 for all whose squares double precision holds.

    Args:
        values: of any dtype; only those of double precision can be out of its reach.
        dims: the dimensions that share a unit; None: all do.

    Returns:
        The values themselves where the unit is 1 throughout; and the unit, float64, a power of two, with `dims` kept at
        size 1.
    """
    one = torch.ones((), dtype=torch.float64, device=values.device)
    if values.dtype not in (torch.float64, torch.complex128) or values.numel() == 0:
        return values, one
    sizes = values.detach().abs()
    largest = sizes.max() if dims is None else sizes.amax(dims, keepdim=True)
    mantissa, exponent = torch.frexp(largest)
    is_extreme = (exponent.abs() > _LARGEST_EXPONENT) & torch.isfinite(largest) & (largest > 0)
    if not bool(is_extreme.any()):
        return values, one
    # An exact quotient: both are the largest value but for a power of two. 2 m, as 2^1024 is beyond the format.
    unit = torch.where(is_extreme, largest / (2.0 * torch.where(is_extreme, mantissa, 1.0)), 1.0)
    return values / unit, unit
