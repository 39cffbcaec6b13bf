"""Requests to stop, and who answers them: a signal, a time limit, or a call from another thread.

Long work asks `current`; nothing else here is global. Work that can be cut off anywhere asks nothing: a
signal raises `Stopped` in it. Work that is worth finishing (an update, a block of samples) stands in `deferred`: there
a first signal is only noted, and the loop asks where it can stop; a second one raises at once.

The command line catches signals (`handling_signals`). A program keeps its own handlers, and asks like this:

    with StopRequest(max_hours=11.5) as stop:    # stop.ask() from another thread ends it, too
        train("countdown")                       # raises Stopped, with a checkpoint of the last update
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import FrameType, TracebackType

from relax_rl.errors import ConfigError

__all__ = ["Reason", "StopRequest", "Stopped", "current", "deferred", "handling_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SAME_REQUEST_S = 0.4
"""``timeout`` signals a process and then its group: two signals so close together are one request."""

_TIME_LIMIT = 124
"""Exit code, that of ``timeout``."""


@dataclass(frozen=True)
class Reason:
    """Why work ends before it is done: words for people, and the exit code of the command."""

    words: str
    exit_code: int

    @classmethod
    def of_code(cls, code: int) -> Reason:
        """The reason behind an exit code, as another process has told it."""
        if code == _TIME_LIMIT:
            return cls("the time limit", code)
        number = code - 128
        return cls("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name, code)

    @classmethod
    def of_signal(cls, number: int) -> Reason:
        return cls.of_code(128 + number)


class Stopped(KeyboardInterrupt):
    """The work was stopped on request.

    Not an `Exception`: user code that answers every error with a default must not swallow it.

    Attributes:
        reason: source of the request.
        kept: state that is on disk, for people; empty for nothing.
        flag: option with which the command goes on, in the place of those that delete or resume; empty: none of them.
            None: the command as it was, for nothing has been written.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"stopped by {reason.words}")
        self.reason = reason
        self.kept = ""
        self.flag: str | None = None


class StopRequest:
    """A request that may come; entered (``with``), it is what `current` returns in this thread.

    Args:
        max_hours: hours from now after which it comes by itself; None: never.

    Raises:
        ConfigError: a limit that is no positive number.
    """

    def __init__(self, max_hours: float | None = None) -> None:
        if max_hours is not None and not 0 < max_hours < float("inf"):
            raise ConfigError(f"max_hours is {max_hours:g}; give a number of hours above 0, or leave it out")
        self._deadline = None if max_hours is None else time.monotonic() + max_hours * 3600
        self._reason: Reason | None = None
        self._deferrals = 0
        self._entered: list[Token[StopRequest]] = []

    def ask(self, reason: Reason | None = None) -> None:
        """Ask to stop; from any thread. The first reason stays."""
        self._reason = self._reason or reason or Reason.of_signal(signal.SIGTERM)

    @property
    def reason(self) -> Reason | None:
        """Why to stop; None: go on."""
        if self._reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.ask(Reason.of_code(_TIME_LIMIT))
        return self._reason

    @property
    def is_deferred(self) -> bool:
        """Whether the work that goes on asks by itself."""
        return self._deferrals > 0

    def check(self) -> None:
        """Raise `Stopped` if a stop has been asked for."""
        if self.reason is not None:
            raise Stopped(self.reason)

    @contextlib.contextmanager
    def deferred(self) -> Generator[StopRequest]:
        """Work that asks by itself and is finished first; what was asked too late for it is answered at its end."""
        if not self.is_deferred:
            self.check()
        self._deferrals += 1
        try:
            yield self
        finally:
            self._deferrals -= 1
        if not self.is_deferred:
            self.check()

    def __enter__(self) -> StopRequest:
        self._entered.append(_CURRENT.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._entered.pop())


# A request that never comes, and never is the current one of a program that does not ask for one.
_CURRENT: ContextVar[StopRequest] = ContextVar("stop request")


def current() -> StopRequest:
    """The request of this thread; one that never comes where none was entered."""
    return _CURRENT.get(None) or StopRequest()


def deferred() -> contextlib.AbstractContextManager[StopRequest]:
    """`StopRequest.deferred` of the current request."""
    return current().deferred()


@contextlib.contextmanager
def handling_signals(
    max_hours: float | None = None, tell: Callable[[str], None] | None = None
) -> Generator[StopRequest]:
    """Inside, SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask for a stop, as the time limit does.

    In the main thread alone, as Python has it; elsewhere there is only the time limit. A signal that this process was
    started to ignore (``nohup``) stays ignored. The handlers that were there come back at the end.

    Args:
        max_hours: see `StopRequest`.
        tell: hears that a signal was noted and what is finished first.
    """
    request = StopRequest(max_hours)
    with contextlib.ExitStack() as stack:
        stack.enter_context(request)
        if threading.current_thread() is threading.main_thread():
            _Handlers(request, tell).install(stack)
            if max_hours is not None:
                stack.enter_context(_waking(max_hours, request))
        yield request


class _Handlers:
    def __init__(self, request: StopRequest, tell: Callable[[str], None] | None) -> None:
        self._request = request
        self._tell = tell
        self._first_at: float | None = None
        self._process = os.getpid()

    def install(self, stack: contextlib.ExitStack) -> None:
        """Until the stack is unwound."""
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                signal.signal(number, self._handle)
                stack.callback(signal.signal, number, before if before is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork has the handler, and nobody in it asks
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        request, now = self._request, time.monotonic()
        if self._first_at is not None and now - self._first_at < _SAME_REQUEST_S:
            return
        first, self._first_at = self._first_at is None, self._first_at or now
        reason = request.reason or Reason.of_signal(number)
        request.ask(reason)
        if first and request.is_deferred:
            if self._tell is not None:
                self._tell(f"{reason.words}: finishing the current step; a second signal stops at once")
            return
        if not first:  # cleaning up may hang: the next signal is the system's
            signal.signal(number, signal.SIG_DFL)
        request.check()


@contextlib.contextmanager
def _waking(max_hours: float, request: StopRequest) -> Generator[None]:
    """Work that asks nothing is woken at the time limit by a signal, which finds the reason there already."""

    def wake() -> None:
        if request.reason == Reason.of_code(_TIME_LIMIT):
            os.kill(os.getpid(), signal.SIGUSR1)

    timer = threading.Timer(min(max_hours * 3600 + 0.01, threading.TIMEOUT_MAX), wake)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
