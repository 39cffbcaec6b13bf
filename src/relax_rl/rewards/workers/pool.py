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

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from relax_rl.errors import ConfigError, RunError

__all__ = ["Outcome", "WorkerPool"]

_BOOTSTRAP = (
    "import json, sys; path, target, timeout_s, memory_bytes = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from relax_rl.rewards.workers.worker import main; main(target, timeout_s, memory_bytes)"
)
_START_LIMIT_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of one item: a ``value`` (``reason`` is None), or the ``reason`` why there is none.

    Reasons: ``timeout`` (CPU time), ``stalled`` (wall-clock backstop), ``memory``, ``recursion``, ``crashed`` (the
    process died), ``error`` (the function raised; ``detail`` has its words).
    """

    value: Any = None
    reason: str | None = None
    detail: str = ""


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
        self._workers: list[_Worker] = []
        self._of_thread = threading.local()
        self._closed = False
        # Runs when the pool is collected and, at the latest, when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end_workers, self._workers, self._owner)

    def map(self, items: Sequence[Sequence[Any]]) -> list[Outcome]:
        """``function(*item)`` for every item, in order. An item that fails does not disturb the others."""
        if not items:
            return []
        return list(self._executor().map(self._run, items))

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that now live."""
        return [worker.pid for worker in list(self._workers) if worker.is_alive()]

    def close(self) -> None:
        """End every worker and wait for it. The pool cannot be used again."""
        with self._guard:
            self._closed = True
            drivers, self._drivers = self._drivers, None
        if drivers is not None and self._owner == os.getpid():
            drivers.shutdown(wait=True, cancel_futures=True)
        self._finalizer()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _executor(self) -> ThreadPoolExecutor:
        if self._owner != os.getpid():  # forked: threads are gone, and the pipes belong to the parent
            self._reset()
        with self._guard:
            if self._closed:
                raise RunError("This pool of grading processes has been closed; make a new one.")
            if self._drivers is None:
                # One thread drives one worker: it sends an item, waits for the answer, and kills at the limit.
                self._drivers = ThreadPoolExecutor(self.num_workers, thread_name_prefix="relax-grading")
            return self._drivers

    def _run(self, item: Sequence[Any]) -> Outcome:
        worker = self._worker()
        had_served = worker.num_served > 0
        outcome = worker.apply(item, self.stall_s)
        if had_served and outcome.reason in {"memory", "crashed", "recursion"}:
            # What an earlier item left behind (a full heap, a broken module) must not decide about this one.
            self._discard(worker)
            worker = self._worker()
            outcome = worker.apply(item, self.stall_s)
        if outcome.reason in {"memory", "crashed", "stalled", "timeout"}:
            self._discard(worker)
        return outcome

    def _worker(self) -> _Worker:
        """This thread's worker, started now if there is none."""
        worker: _Worker | None = getattr(self._of_thread, "worker", None)
        if worker is not None and worker.is_alive():
            return worker
        if worker is not None:
            self._discard(worker)
        worker = self._of_thread.worker = _Worker(self.target, self.timeout_s, self.memory_bytes)
        with self._guard:
            self._workers.append(worker)
        worker.wait_until_ready()
        return worker

    def _discard(self, worker: _Worker) -> None:
        worker.kill()
        self._of_thread.worker = None
        with self._guard:
            self._workers.remove(worker)


class _Worker:
    """One process and its two pipes. Used by one thread at a time."""

    def __init__(self, target: str, timeout_s: float, memory_bytes: int) -> None:
        self.target = target
        self.num_served = 0
        self._ended = False
        self._buffer = bytearray()
        path = [entry or os.getcwd() for entry in sys.path]
        self._process = subprocess.Popen(
            # -P: a file json.py in the current folder must not be what the bootstrap imports.
            [sys.executable, "-P", "-c", _BOOTSTRAP, json.dumps([path, target, timeout_s, memory_bytes])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # The order of Python's sets enters sympy's algorithms, so it must be the same in every process.
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """The handshake: the worker has imported its function and set its limits."""
        message = self._receive(_START_LIMIT_S)
        if message is not None and "ready" in message:
            return
        self.kill()
        why = "it did not start" if message is None else message.get("failed", "it spoke another protocol")
        raise ConfigError(f"The grading process cannot import '{self.target}': {why}.")

    def apply(self, item: Sequence[Any], stall_s: float) -> Outcome:
        self.num_served += 1
        try:
            self._requests.write(json.dumps(list(item)).encode() + b"\n")
            message = self._receive(stall_s)
        except OSError:  # a broken pipe: it died between two items
            message, self._ended = None, True
        if message is not None:
            return Outcome(message.get("value"), message.get("reason"), message.get("detail", ""))
        if not self._ended:
            self.kill()
            return Outcome(reason="stalled", detail=f"no answer within {stall_s:g} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It closed its pipe because it is dying; let it, so that the signal which ended it can be read.
            self._process.wait(timeout=10.0)
        self.kill()
        return _death(self._process.returncode)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._release()

    def close(self) -> None:
        """End of input lets the process leave by itself; one that does not is killed."""
        with contextlib.suppress(OSError):
            self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self.kill()

    def _release(self) -> None:
        self._process.wait()  # reaped here: no zombie
        self._selector.close()
        for pipe in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                pipe.close()

    def _receive(self, limit_s: float) -> dict[str, Any] | None:
        """The next message; None if ``limit_s`` seconds pass or the process dies first."""
        deadline = time.monotonic() + limit_s
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            chunk = os.read(self._replies.fileno(), 1 << 16)
            if not chunk:
                self._ended = True
                return None
            self._buffer += chunk
        line, self._buffer = bytes(self._buffer[:end]), self._buffer[end + 1 :]
        return json.loads(line)


def _death(returncode: int) -> Outcome:
    if returncode == -getattr(signal, "SIGPROF", 0):
        return Outcome(reason="timeout", detail="CPU time")
    if returncode < 0:
        return Outcome(reason="crashed", detail=f"signal {signal.Signals(-returncode).name}")
    return Outcome(reason="crashed", detail=f"exit code {returncode}")


def _available_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_workers(workers: list[_Worker], owner: int) -> None:
    if os.getpid() == owner:  # after a fork they are the parent's
        for worker in workers:
            worker.close()
        workers.clear()
