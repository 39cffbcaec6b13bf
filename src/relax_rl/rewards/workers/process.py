"""One grading process and its two pipes, as the pool sees it; its inside is :mod:`relax_rl.rewards.workers.worker`."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.errors import ConfigError

__all__ = ["Outcome", "Worker", "WorkerStartError"]

_BOOTSTRAP = (
    "import json, sys; path, target, memory_bytes = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from relax_rl.rewards.workers.worker import main; main(target, memory_bytes)"
)
# Signals by which a process ends itself; any other came from outside: the out-of-memory killer, an operator.
_OWN_SIGNALS = frozenset(
    number
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
    if (number := getattr(signal, name, None)) is not None
)
_OF_THE_POOL = frozenset({"stalled", "killed"})


class WorkerStartError(Exception):
    """The process died or took too long before it was ready. Trying again may help."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item: a ``value`` (``reason`` is None), or the ``reason`` why there is none.

    Reasons that lie in the item: ``timeout`` (CPU time), ``memory``, ``recursion``, ``crashed`` (the process ended
    itself), ``error`` (the function raised; ``detail`` has its words). Reasons that lie in the machine: ``killed``
    (from outside), ``stalled`` (wall-clock backstop).
    """

    value: Any = None
    reason: str | None = None
    detail: str = ""

    @property
    def is_of_item(self) -> bool:
        """Whether the item itself is why there is no value: another attempt would end in the same way."""
        return self.reason is not None and self.reason not in _OF_THE_POOL


class Worker:
    """Starts at once; used by one thread at a time.

    Raises:
        WorkerStartError: the system starts no process now.
    """

    def __init__(self, target: str, memory_bytes: int) -> None:
        self.target = target
        self._num_served = 0
        self._ended = False
        self._buffer = bytearray()
        path = [entry or os.getcwd() for entry in sys.path]
        try:
            self._process = subprocess.Popen(
                # -P: a file json.py in the current folder must not be what the bootstrap imports.
                [sys.executable, "-P", "-c", _BOOTSTRAP, json.dumps([path, target, memory_bytes])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # The order of Python's sets enters sympy's algorithms, so it must be the same in every process.
                env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerStartError(str(error)) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_fresh(self) -> bool:
        """Whether the process that serves has served nothing yet."""
        return self._num_served == 0

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, limit_s: float) -> None:
        """The handshake: the worker has imported its function and set its limits.

        Raises:
            ConfigError: the function cannot be imported.
            WorkerStartError: the process died, or was not ready in time; it has ended then.
        """
        message = self._receive(limit_s)
        if message is not None and "ready" in message:
            return
        has_ended = self._ended
        self.kill()
        if message is not None:
            why = message.get("failed", "it spoke another protocol")
            raise ConfigError(f"The grading process cannot import '{self.target}': {why}.")
        words = _death(self._process.returncode).detail if has_ended else f"it was not ready within {limit_s:g} s"
        raise WorkerStartError(words)

    def apply(self, item: Sequence[Any], timeout_s: float, stall_s: float) -> Outcome:
        """The outcome of one item, within CPU and wall-clock seconds."""
        self._num_served += 1
        try:
            self._requests.write(json.dumps([timeout_s, list(item)]).encode() + b"\n")
            message = self._receive(stall_s)
        except OSError:  # a broken pipe: it died between two items
            message, self._ended = None, True
        if message is not None:
            return self._outcome(message)
        if not self._ended:
            self.kill()
            return Outcome(reason="stalled", detail=f"no answer within {stall_s:g} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It closed its pipe because it is dying; let it, so that the signal which ended it can be read.
            self._process.wait(timeout=10.0)
        self.kill()
        return _death(self._process.returncode)

    def _outcome(self, message: dict[str, Any]) -> Outcome:
        if "died" in message:
            self._num_served = 0
            return _death(message["died"])
        if message.get("reason") == "memory":
            self._num_served = 0
        return Outcome(message.get("value"), message.get("reason"), message.get("detail", ""))

    def kill(self) -> None:
        """End it now and wait for it, with the fork that serves."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()  # reaped here: no zombie
        self.forget()

    def close(self) -> None:
        """End of input lets the process leave by itself; one that does not is killed."""
        with contextlib.suppress(OSError):
            self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self.kill()

    def forget(self) -> None:
        """Close this process's ends of the pipes, and leave the worker alone: after a fork it is the parent's."""
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
        reason = "crashed" if -returncode in _OWN_SIGNALS else "killed"
        return Outcome(reason=reason, detail=f"signal {signal.Signals(-returncode).name}")
    return Outcome(reason="crashed", detail=f"exit code {returncode}")
