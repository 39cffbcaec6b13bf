"""Sampling in several processes of this machine.

They are forks of this one: the weights are in memory once, and nothing is loaded again. Each decodes whole blocks (see
`.transformers.sample_blocks`) and hands them over; this process alone writes. Neither the blocks nor the threads of a
process depend on the number of processes, and so neither do the samples.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Container, Generator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from relax_rl.errors import RunError
from relax_rl.evaluation.samplers.divided import DividedSampler
from relax_rl.evaluation.samplers.protocol import Draw, SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler
from relax_rl.rewards.workers.worker import end_with_parent
from relax_rl.stopping import current
from relax_rl.tasks.base import Problem

__all__ = ["ForkingSampler"]


class ForkingSampler(DividedSampler):
    """A model on the CPU, sampled by several processes. Linux alone: elsewhere a fork with threads is unsafe.

    Args:
        sampler: the sampler of each process.
        num_processes: at most; no more than there are blocks. A single block is decoded in this process.
        num_threads: threads of a process that samples by itself, for a single block. It can change the last bits of the
            logits, as the batch size can. A fork has one: OpenMP's others do not survive it, and would be waited for.
    """

    def __init__(self, sampler: TransformersSampler, num_processes: int, num_threads: int = 1) -> None:
        super().__init__(sampler)
        self._num_processes = num_processes
        self._num_threads = num_threads

    def sample(
        self, problems: Sequence[Problem], settings: SamplingSettings, done: Container[tuple[int, int]] = frozenset()
    ) -> Generator[list[Draw]]:
        """See `.protocol.Sampler`. Closing the generator ends the processes.

        Raises:
            RunError: a process was ended from outside.
            Exception: the first that was raised in a process.
        """
        rows = ((index, draw) for index in range(len(problems)) for draw in range(settings.num_samples))
        num_blocks = -(-sum(row not in done for row in rows) // self._sampler.batch_size)
        num_processes = min(self._num_processes, num_blocks)
        if num_processes < 2:
            with _threads(self._num_threads):
                yield from self._sampler.sample(problems, settings, done)
            return

        def work(takes: Callable[[int], bool]) -> Generator[list[Draw]]:
            torch.set_num_threads(1)
            yield from self._sampler.sample(problems, settings, done, takes)

        with _forks(work, num_processes) as forks:
            yield from _handed_over(forks)


Work = Callable[[Callable[[int], bool]], Generator[list[Draw]]]


class _Fork:
    """A process that decodes the blocks whose numbers it is told, and a pipe to it."""

    def __init__(self, work: Work, first: int) -> None:
        context = get_context("fork")
        self.pipe, other = context.Pipe()
        self.pipe.send(first)
        # A daemon, so that the end of the interpreter ends it where nobody closed the generator.
        self._process = context.Process(target=_serve, args=(work, other, self.pipe), daemon=True)
        self._process.start()
        # Else its death would not end the pipe.
        other.close()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def death(self) -> RunError:
        """Why it closed its pipe before it was done."""
        self._process.join()
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return RunError(
            f"A process that samples ended by itself or was ended ({how}), most likely because memory ran out; run the "
            "same command again with --processes 1: it continues with the samples that are there."
        )


@contextmanager
def _forks(work: Work, count: int) -> Generator[list[_Fork]]:
    forks: list[_Fork] = []
    try:
        for number in range(count):
            forks.append(_Fork(work, number))
        yield forks
    finally:
        for fork in forks:
            fork.end()


def _handed_over(forks: Sequence[_Fork]) -> Generator[list[Draw]]:
    """Completions as the processes decode them, until all are done."""
    working, following = {fork.pipe: fork for fork in forks}, len(forks)
    while working:
        for pipe in wait(list(working)):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                # A signal to the whole group is a request to stop, and no death to report.
                current().check()
                raise working[pipe].death() from None
            if message is None:
                del working[pipe]
            elif isinstance(message, Exception):
                raise message
            else:
                # Before the block is written, so that the process does not wait for the disk.
                with suppress(BrokenPipeError):
                    pipe.send(following)
                following += 1
                yield message


def _serve(work: Work, pipe: Any, of_parent: Any) -> None:
    """The inside of a process: blocks in the order of their numbers, as the parent tells them."""
    end_with_parent()
    of_parent.close()  # else a parent that died before the line above would never be missed
    for number in (
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGUSR1,
    ):  # those of a terminal reach it, too; the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads did not survive the fork
    reported: list[int] = []

    def takes(number: int) -> bool:
        if not reported:
            try:
                reported.append(pipe.recv())
            except EOFError:
                sys.exit(1)
        return number == reported[0] and reported.pop() == number

    try:
        for draws in work(takes):
            pipe.send(draws)
        pipe.send(None)
    except Exception as error:  # raised again where the samples are read, as if it had happened there
        error.add_note(traceback.format_exc())
        pipe.send(error)


@contextmanager
def _threads(count: int) -> Generator[None]:
    """Torch on so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
