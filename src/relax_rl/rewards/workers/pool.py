"""Worker processes for code that cannot be trusted to end: hard limits of time and memory, killed and replaced.

Grading a model's answer means running a computer algebra system on text that the model wrote. Some of that text never
ends (``9^{9^{9^9}}``), some takes all memory. So each item runs in a process of its own kind: a fresh interpreter
(:mod:`relax_rl.rewards.workers.worker`) that imports one function by path and applies it to one item at a time.

An item that breaks a limit yields an :class:`Outcome` with a reason instead of a value; its worker is replaced. A
worker starts when an item first needs it. Verdicts depend neither on the load of the machine (the limit is CPU time;
the limit of wall-clock time is a far backstop) nor on the number of workers, nor on what ran before (a worker that had
served other items and failed otherwise than by time is given one more try, as a fresh process).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from relax_rl.errors import ConfigError, RunError
from relax_rl.rewards.workers.process import Outcome, Worker, WorkerStartError

__all__ = ["Outcome", "WorkerPool"]

_START_LIMIT_S = 120.0
_START_ATTEMPTS = 3
# Of one item whose worker is killed from outside, and of a pool whose workers die one after another.
_KILLED_ATTEMPTS = 3
_MAX_DEATHS = 10

_logger = logging.getLogger(__name__)


class WorkerPool:
    """Applies the function at an import path to items, each within limits.

    Args:
        target: ``package.module:function``. Arguments and result must be JSON; the module must not import torch.
        num_workers: processes at most. None: one per available CPU, at most 8.
        timeout_s: CPU seconds that one item may use.
        stall_s: wall-clock seconds that one item may take, from the moment a worker begins it. Default: 20 times
            ``timeout_s`` and at least 10 s, so that only a sleeping item or a starved machine meets it.
        memory_mb: address space of a worker in MiB, its interpreter and imports included (some 100 MiB with sympy). An
            item that takes it to more than 60 % of that has the reason ``memory`` whatever it returns.

    Raises:
        ConfigError: a limit that is not positive, or (when the first item comes) a target that cannot be imported.
        RunError: from ``map``, if no worker starts in three attempts, or ten are killed from outside one after another.

    Usable from several threads and after a fork (the child starts workers of its own). ``close()`` or leaving the
    ``with`` block ends all workers; so does the end of the interpreter.
    """

    def __init__(
        self,
        target: str,
        *,
        num_workers: int | None = None,
        timeout_s: float = 5.0,
        stall_s: float | None = None,
        memory_mb: int = 1024,
    ) -> None:
        if num_workers is not None and num_workers < 1:
            raise ConfigError(f"num_workers is {num_workers}; a pool needs at least one worker process.")
        if not timeout_s > 0 or not (stall_s is None or stall_s > 0):
            raise ConfigError(f"timeout_s={timeout_s} and stall_s={stall_s} must be positive numbers of seconds.")
        if memory_mb < 64:
            raise ConfigError(f"memory_mb is {memory_mb}; a Python process does not start in less than 64 MiB.")
        self.target = target
        self.num_workers = num_workers or min(8, _available_cpus())
        self.timeout_s = float(timeout_s)
        self.stall_s = float(stall_s) if stall_s is not None else max(10.0, 20 * self.timeout_s)
        self.memory_bytes = memory_mb * 2**20
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._guard = threading.Lock()
        self._drivers: ThreadPoolExecutor | None = None
        self._workers: list[Worker] = []
        self._of_thread = threading.local()
        self._closed = False
        self._deaths = 0
        # Runs when the pool is collected and, at the latest, when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end_workers, self._workers, self._owner)
        _POOLS.add(self)

    def _after_fork(self) -> None:
        """In the child: its threads are gone, a lock may be held for ever, and the workers are the parent's."""
        self._finalizer.detach()
        for worker in self._workers:
            # Else the worker would not see the end of its input when the parent dies.
            worker.forget()
        self._reset()

    def map(self, items: Sequence[Sequence[Any]], *, timeout_s: float | None = None) -> list[Outcome]:
        """``function(*item)`` for every item, in order. An item that fails does not disturb the others.

        Args:
            timeout_s: CPU seconds of each of these items, in place of the pool's own limit.
        """
        if not items:
            return []
        limit = self.timeout_s if timeout_s is None else timeout_s
        return list(self._executor().map(lambda item: self._run(item, limit), items))

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that now live."""
        return [worker.pid for worker in list(self._workers) if worker.is_alive()]

    def close(self) -> None:
        """End every worker and wait for it. The pool cannot be used again."""
        with self._guard:
            self._closed = True
            drivers, self._drivers = self._drivers, None
        if drivers is not None and self._owner == os.getpid():
            drivers.shutdown(cancel_futures=True)
        self._finalizer()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _executor(self) -> ThreadPoolExecutor:
        with self._guard:
            if self._closed:
                raise RunError("This pool of grading processes has been closed; make a new one.")
            if self._drivers is None:
                # One thread drives one worker: it sends an item, waits for the answer, and kills at the limit.
                self._drivers = ThreadPoolExecutor(self.num_workers, thread_name_prefix="relax-grading")
            return self._drivers

    def _run(self, item: Sequence[Any], timeout_s: float) -> Outcome:
        outcome = self._attempt(item, timeout_s)
        for _ in range(1, _KILLED_ATTEMPTS):
            if outcome.reason != "killed":
                break
            outcome = self._attempt(item, timeout_s)
        return outcome

    def _attempt(self, item: Sequence[Any], timeout_s: float) -> Outcome:
        worker = self._worker()
        was_fresh = worker.is_fresh
        outcome = worker.apply(item, timeout_s, self.stall_s)
        if not was_fresh and outcome.reason in {"memory", "crashed", "recursion"}:
            # What an earlier item left behind (a full heap, a broken module) must not decide about this one.
            if not worker.is_fresh:
                self._discard(worker)
            outcome = self._worker().apply(item, timeout_s, self.stall_s)
        self._count(outcome)
        return outcome

    def _count(self, outcome: Outcome) -> None:
        """Deaths one after another: that is no single item's doing."""
        has_died = outcome.reason in {"crashed", "killed"}
        with self._guard:
            self._deaths = self._deaths + 1 if has_died else 0
            is_the_tenth = self._deaths == _MAX_DEATHS
            if is_the_tenth:
                self._deaths = 0
        if not is_the_tenth:
            return
        if outcome.reason == "killed":
            raise RunError(
                f"Grading processes were killed {_MAX_DEATHS} times in a row ({outcome.detail}), most likely because "
                "the system ran out of memory; free some, or use fewer of them (num_workers)."
            )
        _logger.warning(
            "Grading processes crashed %d times in a row (%s): if it is not the answers, the installation of '%s' is "
            "broken.",
            _MAX_DEATHS,
            outcome.detail,
            self.target,
        )

    def _worker(self) -> Worker:
        """This thread's worker, started now if there is none."""
        worker: Worker | None = getattr(self._of_thread, "worker", None)
        if worker is not None and worker.is_alive():
            return worker
        if worker is not None:
            self._discard(worker)
        worker = self._of_thread.worker = self._started()
        return worker

    def _started(self) -> Worker:
        """A worker that is ready. A busy machine may need several attempts."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                worker = Worker(self.target, self.memory_bytes)
                with self._guard:
                    self._workers.append(worker)
                try:
                    worker.wait_until_ready(_START_LIMIT_S)
                except BaseException:
                    with self._guard:
                        self._workers.remove(worker)
                    raise
                return worker
            except WorkerStartError as error:
                if attempt == _START_ATTEMPTS:
                    raise RunError(
                        f"The grading process for '{self.target}' did not start in {attempt} attempts ({error}); free "
                        "memory or processes of this machine, and resume."
                    ) from error
                time.sleep(attempt)
        raise AssertionError

    def _discard(self, worker: Worker) -> None:
        worker.kill()
        self._of_thread.worker = None
        with self._guard:
            self._workers.remove(worker)


def _available_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_workers(workers: list[Worker], owner: int) -> None:
    if os.getpid() == owner:  # after a fork they are the parent's
        for worker in workers:
            worker.close()
        workers.clear()


_POOLS: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def _forget_workers() -> None:
    for pool in list(_POOLS):
        pool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
