"""One process looks, all act on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from relax_rl.errors import RelaxError

__all__ = ["found_by_first"]

T = TypeVar("T")


def found_by_first(look: Callable[[], T]) -> T:
    """Finding of the first process, on all processes. Collective: call it on every rank.

    Raises:
        RelaxError: the error of the first process, on all of them, so that none waits for the others.
    """
    state = PartialState()
    if state.num_processes == 1:
        return look()
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome = [look(), None]
        except RelaxError as error:
            outcome = [None, error]
    broadcast_object_list(outcome)
    found, error = outcome
    if error is not None:
        raise error
    return found
