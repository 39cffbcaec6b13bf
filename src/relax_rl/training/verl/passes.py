"""Requests of an update and a calibration to the engine."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

__all__ = ["Engine", "as_they_are"]


class Engine(Protocol):
    """See `relax_rl.training.verl.engine.RelaxEngine`."""

    def passes(self, data: Any, reader: Any, *, has_gradient: bool) -> Any: ...

    def micro_batches(self, data: Any) -> list[Any]: ...

    def of_tokens(self, states: Tensor, micro: Any, columns: Any) -> Tensor: ...

    def get_data_parallel_group(self) -> Any: ...


def as_they_are(states: Tensor) -> Tensor:
    """Every column of the states."""
    return states
