"""Inputs of the toolkit: tensors, or arrays made into tensors; real where it must be, in a unit that fits.

Everything is computed in double precision, and most of it through squares: of numbers beyond 1e154 these are Inf, of
numbers below 1e-154 they are 0 or a few digits of it. What is measured here is mostly the same in every unit, so such
data are taken in one that fits, a power of two away, which changes no digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relax_rl.errors import DataError

__all__ = [
    "all_finite",
    "as_channels",
    "as_tensor",
    "batch_of",
    "channel_list",
    "in_its_unit",
    "require_real",
    "trajectory_list",
]

_LARGEST_EXPONENT = 256
"""Beyond 2^256, 1e77, and below its inverse, fourth powers and sums of them leave double precision."""


def as_tensor(value: object, name: str) -> Tensor:
    """The value as a tensor: a tensor itself, or a copy of what NumPy can read as an array of numbers.

    Raises:
        DataError: something else; the message says how to make a tensor of it.
    """
    if isinstance(value, Tensor):
        return value
    # NumPy's protocol, which arrays, pandas frames and JAX arrays have, and lists and numbers have not.
    convert = getattr(type(value), "__array__", None)
    if convert is not None:
        try:
            return torch.tensor(convert(value).copy())
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{name} must hold numbers, but {error}; convert them to float64.") from error
    is_list = isinstance(value, list | tuple)
    way = "torch.stack or pack_trajectories joins tensors" if is_list else "give a tensor or a NumPy array"
    raise DataError(f"{name} must be a torch tensor, but {type(value).__name__} was given; {way}.")


def all_finite(values: Tensor) -> bool:
    """Whether no number is NaN or Inf."""
    # A finite sum has finite terms alone, and takes a tenth of the time. One that overflows decides nothing.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def as_channels(states: Tensor) -> Tensor:
    """Complex states (..., H) as real ones (..., 2 H), real and imaginary part of each channel side by side.

    Lengths and angles stay what they are. Real states are returned as they are.
    """
    return torch.view_as_real(states.resolve_conj()).flatten(-2) if states.is_complex() else states


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
    """One trajectory (T, H) or several (T_i, H), tensors or arrays, as a list of tensors.

    Raises:
        DataError: no trajectory, or something that is no tensor or not (T, H) with H of at least 1 and the same for
            all.
    """
    if isinstance(trajectories, Tensor):
        found = [trajectories]
    elif isinstance(trajectories, Sequence) and not isinstance(trajectories, str):
        found = [as_tensor(part, f"Item {place} of a list of trajectories") for place, part in enumerate(trajectories)]
    else:
        found = [as_tensor(trajectories, name)]
    if not found:
        raise DataError("There is no trajectory; give at least one tensor (T, H).")
    if len({part.shape[1:] for part in found}) != 1 or any(part.ndim != 2 or part.shape[1] < 1 for part in found):
        shapes = sorted({tuple(part.shape) for part in found})[:4]
        raise DataError(
            f"{name} must be (T, F), or a list of (T_i, F) with the same F of at least 1; got shapes such as {shapes}."
        )
    return found


def channel_list(trajectories: object, name: str = "Trajectories") -> list[Tensor]:
    """As :func:`trajectory_list`, complex trajectories as real ones of twice as many channels."""
    return [as_channels(part) for part in trajectory_list(trajectories, name)]


def batch_of(states: object, mask: object, name: str) -> tuple[Tensor, Tensor]:
    """Trajectories as a padded batch (B, T, H) with its mask (B, T), whichever way they are given.

    Args:
        states: (B, T, H); one trajectory (T, H); or a list of (T_i, H), which is padded with zeros.
        mask: (B, T), or (T,) beside one trajectory; None: every token is valid. A list has its own.

    Raises:
        DataError: a list of trajectories of different widths, or one with a mask.
    """
    if isinstance(states, list | tuple) and mask is None:
        parts = trajectory_list(states, name)
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        lengths = torch.tensor([len(part) for part in parts], device=padded.device)
        return padded, torch.arange(padded.shape[1], device=padded.device) < lengths.unsqueeze(-1)
    states = as_tensor(states, name)
    mask = torch.ones(states.shape[:-1], dtype=torch.bool, device=states.device) if mask is None else mask
    mask = as_tensor(mask, "The mask")
    return (states.unsqueeze(0), mask.unsqueeze(0)) if states.ndim == 2 else (states, mask)


def in_its_unit(values: Tensor, dims: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Values divided by a unit, and that unit: 1 for all whose squares double precision holds.

    Args:
        values: numbers of any dtype; only those of double precision can be out of its reach.
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
