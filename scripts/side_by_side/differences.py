"""What differs between two results, and by how much. A result is a table of values by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Check", "Values", "differences", "flattened"]

Values = Mapping[str, Any]
"""Arrays, numbers, text and None by name."""


@dataclass(frozen=True)
class Check:
    """One comparison, one line.

    Attributes:
        part: such as "losses".
        name: a method, or what was run.
        counts: what was compared, in words.
        found: each difference in words, in the order of the results; empty where all is equal.
    """

    part: str
    name: str
    counts: str
    found: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        return not self.found

    def line(self, word: str = "DIFFERENT") -> str:
        """The result; of several differences, called `word`, the first."""
        if self.is_equal:
            return f"{self.part} {self.name}: equal ({self.counts})"
        first, *others = self.found
        more = f"; and {len(others)} more" if others else ""
        return f"{self.part} {self.name}: {word}, first {first}{more} ({self.counts})"


def differences(before: Values, after: Values) -> tuple[str, ...]:
    """What is not equal to the last bit, each in words. NaN is equal to NaN; 0.0 is not equal to -0.0."""
    found = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            found.append(f"{name}: only in the reference")
        elif name not in before:
            found.append(f"{name}: only in the candidate")
        elif told := _difference(before[name], after[name]):
            found.append(f"{name}: {told}")
    return tuple(found)


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """The values of nested lists and tables, by their place: ``metrics.mean@1.value``, ``samples.3.score``."""
    if isinstance(value, Mapping):
        inner = {str(key): each for key, each in value.items()}
    elif isinstance(value, list):
        inner = {str(place): each for place, each in enumerate(value)}
    else:
        return {name: value}
    flat: dict[str, Any] = {f"{name} size": len(inner)} if not inner else {}
    for key, each in inner.items():
        flat |= flattened(each, f"{name}.{key}" if name else key)
    return flat


def _difference(before: Any, after: Any) -> str | None:
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return _array_difference(before, after)
    if type(before) is not type(after):
        return f"{_short(before)} before, {_short(after)} after"
    if isinstance(before, float):
        return _array_difference(np.asarray(before), np.asarray(after))
    return None if before == after else _text_difference(before, after)


def _array_difference(before: np.ndarray, after: np.ndarray) -> str | None:
    if before.dtype.kind == "U" or after.dtype.kind == "U":
        return None if np.array_equal(before, after) else _text_difference(str(before), str(after))
    if before.dtype != after.dtype or before.shape != after.shape:
        return f"{before.dtype} {before.shape} before, {after.dtype} {after.shape} after"
    is_same = before == after
    if before.dtype.kind == "f":
        is_same = (is_same & (np.signbit(before) == np.signbit(after))) | (np.isnan(before) & np.isnan(after))
    if is_same.all():
        return None
    place = tuple(np.argwhere(~is_same)[0])
    first, second = before[place], after[place]
    if before.ndim == 0:
        return f"{first!s} before, {second!s} after{_size(first, second)}"
    at = ", ".join(map(str, place))
    return (
        f"{(~is_same).sum()} of {is_same.size} values, such as [{at}] {first!s} before, {second!s} after"
        f"{_size(before[~is_same], after[~is_same])}"
    )


def _size(before: Any, after: Any) -> str:
    """The largest distance, and relative to the value before."""
    with np.errstate(all="ignore"):
        distance = np.abs(np.asarray(after, dtype=float) - np.asarray(before, dtype=float))
        relative = distance / np.abs(np.asarray(before, dtype=float))
    largest = float(np.max(distance))
    if not math.isfinite(largest):
        return ""
    return f" (by {largest:.2g}, relative {float(np.max(relative)):.2g})"


def _text_difference(before: Any, after: Any) -> str:
    """Both texts from shortly before the first sign that differs."""
    before, after = str(before), str(after)
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, start - 20)
    return f"{_short(before[start:])} before, {_short(after[start:])} after"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:66]}..."
