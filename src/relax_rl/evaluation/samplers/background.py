"""A coroutine that works in a thread of its own and hands over what it has, until it is done or nobody wants more."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from relax_rl.stopping import current

__all__ = ["in_background", "side_by_side"]

# The main thread wakes so often to see signals; a lock without a limit would hide them on some systems.
_POLL_S = 0.2
_LEAVE_S = 1.0


T = TypeVar("T")


def in_background(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Run ``work(hand_over)`` on an event loop of its own, and yield what it hands over, in that order.

    Closing the iterator, or an exception such as KeyboardInterrupt in it, cancels the work at once: its connections are
    closed, and its thread does not keep the interpreter alive.

    Raises:
        Exception: the first that the work raised, after all that was handed over before.
        Stopped: a stop was asked for (`relax_rl.stopping`) while nothing was handed over.
    """
    job = _Job(work)
    try:
        yield from job.results()
    finally:
        job.leave()
    if job.error is not None:
        raise job.error


async def side_by_side(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run ``work()`` so many times at once; the first exception ends all of them."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


class _Job(Generic[T]):
    def __init__(self, work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._handed: queue.SimpleQueue[T | _Done] = queue.SimpleQueue()
        self._is_left = threading.Event()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._thread = threading.Thread(target=self._run, name="relax-requests", daemon=True)
        self._thread.start()

    def results(self) -> Iterator[T]:
        while True:
            try:
                item = self._handed.get(timeout=_POLL_S)
            except queue.Empty:
                current().check()  # a caller that defers a stop until the next result may wait for it for ever
                continue
            if isinstance(item, _Done):
                return
            yield item

    def leave(self) -> None:
        self._is_left.set()
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # it has ended and closed its loop
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # raised where the results are read
            self.error = error
        self._handed.put(_Done())

    async def _main(self) -> None:
        task = asyncio.create_task(self._work(self._handed.put))
        self._running = asyncio.get_running_loop(), task
        if self._is_left.is_set():  # before there was a task to cancel
            task.cancel()
        await task


class _Done:
    """The end of the work."""
