"""The inside of a grading process: one function, one item at a time, under limits that the kernel enforces.

Started by :mod:`relax_rl.rewards.workers.pool` as a fresh interpreter, never forked, so that it holds neither torch
nor a lock of the training process, and never runs the caller's main module again. It speaks JSON, one line a message,
over its standard input and output. Nothing is pickled. The interpreter itself only imports; a fork of it serves, and is
replaced by another one when an item ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from relax_rl.import_path import resolve

__all__ = ["end_with_parent", "main"]

# Of the address space: a process that has held so much is answered for, and replaced.
_MEMORY_SHARE = 0.6
# By which a process that has held too much ends itself, after its answer. Its default action is death.
_EXHAUSTED = getattr(signal, "SIGUSR2", 0)
_PR_SET_PDEATHSIG = 1


def main(target: str, memory_bytes: int) -> None:
    """Serve until standard input ends: each line is a limit of time in seconds, and the arguments of one item.

    The limit of time is CPU time of this process (``ITIMER_PROF`` with its default action, which is death): it counts
    an item's own work and nothing else, holds inside C code that never returns to Python, and gives the same verdict
    on a busy machine as on an idle one. The limit of memory is on the address space.
    """
    requests, replies = _private_pipes()
    if hasattr(signal, "SIGPROF"):  # an ignored signal would be inherited, and the limit with it
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        function = resolve(target)
    except Exception as error:  # reported to the parent, which raises it: nothing is lost
        _send(replies, {"failed": f"{type(error).__name__}: {error}"})
        return
    _limit_memory(memory_bytes)
    _send(replies, {"ready": os.getpid()})
    if not hasattr(os, "fork"):
        _serve(function, requests, replies, memory_bytes)
        return
    while True:
        # Imports take a second and a fork some milliseconds: what one item kills, the next does not wait for.
        server = os.fork()
        if server == 0:
            end_with_parent()
            _serve(function, requests, replies, memory_bytes)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
        if code == 0:  # the end of input
            return
        if code != -_EXHAUSTED:
            _send(replies, {"died": code})


def _serve(function: Callable[..., Any], requests: BinaryIO, replies: BinaryIO, memory_bytes: int) -> None:
    for line in requests:
        message = _answer(function, line)
        used = _peak_memory()
        if used > _MEMORY_SHARE * memory_bytes:
            # The function may have met the limit and caught it, as parsers do, and then its result is worth nothing.
            message = {"reason": "memory", "detail": f"{used >> 20} MiB"}
        _send(replies, message)
        # Also where it was refused what it asked for and holds little: the heap of earlier items may be why.
        if message.get("reason") == "memory" and hasattr(os, "fork"):
            os.kill(os.getpid(), _EXHAUSTED)


def end_with_parent() -> None:
    """End this fork as soon as its parent is gone. Linux: one that sleeps would outlive a parent that was killed."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(function: Callable[..., Any], line: bytes) -> dict[str, Any]:
    try:
        timeout_s, arguments = json.loads(line)
        _cpu_alarm(timeout_s)
        try:
            return {"value": function(*arguments)}
        finally:
            _cpu_alarm(0.0)
    except MemoryError:
        return {"reason": "memory"}
    except RecursionError:
        return {"reason": "recursion"}
    except Exception as error:  # an item's own failure is that item's outcome, with its words
        return {"reason": "error", "detail": f"{type(error).__name__}: {error}"[:500]}


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two ends that the protocol uses, out of reach of a graded function that prints or reads."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return requests, replies


def _send(replies: BinaryIO, message: dict[str, Any]) -> None:
    try:
        text = json.dumps(message)
    except (TypeError, ValueError) as error:
        text = json.dumps({"reason": "error", "detail": f"the result is not JSON: {error}"[:500]})
    try:
        replies.write(text.encode() + b"\n")
        replies.flush()
    except BrokenPipeError:
        sys.exit(0)  # the parent is gone, nobody is left to answer


def _cpu_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _peak_memory() -> int:
    """Bytes that this process has held at most; 0 where the system does not say.

    Not ``ru_maxrss``: on Linux that begins with what the training process held when it started this one.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:")), 0)
    except OSError:
        return 0


def _limit_memory(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limit outside POSIX; the limit of time holds there too
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
