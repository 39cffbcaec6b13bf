"""The one way in which benchmarks take times: sides in turn, processor time, one thread, processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

__all__ = ["ApartError", "Times", "apart", "at_once", "in_turn", "peak_memory", "stream_apart"]

T = TypeVar("T")


class ApartError(Exception):
    """The process that should have measured failed; the message holds its traceback."""


@dataclass
class Times:
    """Seconds of every round: by the clock, and of the processor, which other programs disturb less."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def take(self, work: Callable[[], T]) -> T:
        """Run `work` and note how long it took."""
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)
        return result

    @property
    def median(self) -> float:
        """Median of processor seconds."""
        return median(self.processor)


def in_turn(
    sides: Mapping[str, Callable[[], object]], rounds: int, results: dict[str, object] | None = None
) -> dict[str, Times]:
    """Every side once a round, in this process. The first round warms up and does not count.

    The order moves on by one each round, so that no side always runs first or after the same neighbour.

    Args:
        results: receives what each side returned last, to compare values.
    """
    names = list(sides)
    times = {name: Times() for name in names}
    for name in names:
        sides[name]()
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            result = times[name].take(sides[name])
            if results is not None:
                results[name] = result
    return times


def at_once(sides: Mapping[str, Callable[[int], T]], rounds: int) -> Generator[dict[str, T]]:
    """Both sides of each round at the same time, each on a core of its own; they swap cores every round.

    What else the machine does then disturbs both alike. Each side receives the number of its core and has to start a
    process there: threads of this process would wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0))[: len(sides)]
    if len(cores) < len(sides):
        raise SystemExit(f"{len(sides)} sides at once need as many cores; this process may use {len(cores)}.")
    with ThreadPoolExecutor(len(sides)) as pool:
        for number in range(rounds):
            turned = cores[number % len(cores) :] + cores[: number % len(cores)]
            started = {name: pool.submit(side, core) for (name, side), core in zip(sides.items(), turned, strict=True)}
            yield {name: future.result() for name, future in started.items()}


def apart(function: Callable[..., T], *arguments: object, limit: float = 600.0) -> T:
    """What the function returns, from a fresh process: its memory and its imports are its own.

    Args:
        function: of a module, not of the script that is run.
        limit: seconds after which the process is ended.

    Raises:
        ApartError: it failed, or took too long.
    """
    (result,) = stream_apart(_alone, function, arguments, limit=limit)
    return result


def stream_apart(function: Callable[..., Iterable[T]], *arguments: object, limit: float = 600.0) -> Generator[T]:
    """Like `apart`, for a function that yields; what came before a failure is not lost."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    end = time.monotonic() + limit
    process.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(max(0.0, end - time.monotonic())):
                raise ApartError(f"not finished after {limit:.0f} s")
            try:
                kind, value = receiver.recv()
            except EOFError as error:
                raise ApartError("its process ended without a word") from error
            if kind == "end":
                process.join(30)  # ended in peace, it leaves no semaphores behind
                return
            if kind == "error":
                raise ApartError(value)
            yield value
    finally:
        receiver.close()
        process.kill()
        process.join()


def _alone(function: Callable[..., T], arguments: tuple[object, ...]) -> Iterable[T]:
    yield function(*arguments)


def _send(sender: Connection, function: Callable[..., Iterable[Any]], arguments: tuple[object, ...]) -> None:
    import traceback

    try:
        for value in function(*arguments):
            sender.send(("value", value))
        sender.send(("end", None))
    except Exception:
        sender.send(("error", traceback.format_exc(limit=-6)))


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux's ru_maxrss also remembers the process that forked this one, before it became another program.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
