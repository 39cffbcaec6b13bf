"""Joint work of a run's processes: sample a policy, and fit once what all need."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from relax_rl.errors import RelaxError
from relax_rl.evaluation.samplers.divided import DividedSampler
from relax_rl.evaluation.samplers.protocol import Draw, SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.tasks.base import Problem

__all__ = ["IMPOSSIBLE", "SharingSampler", "given_to_first", "made_once", "raised_by_all"]

IMPOSSIBLE = (RelaxError, torch.linalg.LinAlgError)
"""Errors of a fit that the numbers do not allow."""

T = TypeVar("T")


def made_once(make: Callable[[], T]) -> T:
    """Result of the first process, on every process. Collective.

    Raises:
        IMPOSSIBLE: on every process, where the first one raises it.
    """
    made: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            made[0] = make()
        except IMPOSSIBLE as error:
            made[1] = error
    result, failure = broadcast_object_list(made)
    if failure is not None:
        raise failure
    return result


def given_to_first(given: T) -> list[T] | None:
    """Values of all processes, in their order; None on all but the first. Collective.

    `accelerate.utils.gather_object` would give it to every one of them.
    """
    processes = PartialState()
    if processes.num_processes == 1:
        return [given]
    received: list[Any] | None = [None] * processes.num_processes if processes.is_main_process else None
    torch.distributed.gather_object(given, received, dst=0)
    return received


def raised_by_all(failures: list[Exception]) -> None:
    """Raise, on every process, the first failure that any of them has. Collective.

    A process that left alone would keep the others waiting, so each brings what it caught.
    """
    if found := gather_object(failures):
        raise found[0]


class SharingSampler(DividedSampler):
    """A policy that every process of a run holds: each decodes some of the blocks, and all get every completion.

    The completions are those of one process, as the blocks are (see `sample_blocks`). Where the weights are sharded,
    every forward is one of all processes; then each decodes every block, in step with the others.

    Args:
        sampler: sampler of this process.
        is_sharded: whether the weights are.
    """

    def __init__(self, sampler: TransformersSampler, *, is_sharded: bool = False) -> None:
        super().__init__(sampler)
        self._is_sharded = is_sharded

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """See `relax_rl.evaluation.samplers.protocol.Sampler`. Collective.

        Raises:
            Exception: on every process, the first that was raised on any.
        """
        processes = PartialState()
        if self._is_sharded or processes.num_processes == 1:
            yield from self._sampler.sample(problems, settings, done)
            return

        def is_mine(number: int) -> bool:
            return number % processes.num_processes == processes.process_index

        draws: list[Draw] = []
        failures: list[Exception] = []
        try:
            for lot in self._sampler.sample(problems, settings, done, is_mine):
                draws += lot
        except Exception as error:
            failures.append(error)
        raised_by_all(failures)
        yield gather_object(draws)
