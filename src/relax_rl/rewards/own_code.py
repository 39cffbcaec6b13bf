"""Calling what a user wrote: its errors are one sentence with its file and line, and a long call says that it goes on.

Own code runs in this process and without limits, since nothing can end it safely here. Instead of a limit there is a
sign of life: a sentence after half a minute, after one minute, after two, and so on.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import queue
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from relax_rl.errors import DataError, RelaxError

__all__ = ["as_scores", "awaited", "called", "called_within", "is_own", "place_of"]

Result = TypeVar("Result")

FIRST_SIGN_S = 30.0
_logger = logging.getLogger("relax_rl.own_code")
_OWN_PACKAGE = str(Path(__file__).parents[1])
_INSTALLED = ("site-packages", "dist-packages", str(Path(os.__file__).parent))


def is_own(kind: type) -> bool:
    """Whether a class was written outside this package."""
    return not kind.__module__.startswith("relax_rl.")


def place_of(function: Any) -> str:
    """``file.py:12``, where a function or the class of an object is defined; its name where no file is known."""
    found = inspect.unwrap(function) if callable(function) else function
    found = getattr(found, "func", found)  # of functools.partial
    if not (inspect.isroutine(found) or inspect.isclass(found)):
        found = type(found)
    try:
        file, (_, line) = inspect.getsourcefile(found), inspect.getsourcelines(found)
    except (OSError, TypeError):
        return getattr(found, "__qualname__", repr(found))
    return f"{_short(file or '')}:{line}"


def called(what: str, function: Callable[..., Result], /, *arguments: Any, **named: Any) -> Result:
    """What a user's function returns.

    Args:
        what: the function in words, with its place, for messages: ``The verifier 'score' (rewards.py:3)``.

    Raises:
        DataError: it raised; the sentence says what and in which line of the user's code.
    """
    with _SignsOfLife(what):
        try:
            return function(*arguments, **named)
        except RelaxError:
            raise
        except Exception as error:
            raise _raised(what, error) from error


def called_within(
    what: str, timeout_s: float | None, function: Callable[..., Result], /, *arguments: Any, **named: Any
) -> Result:
    """As `called`, for at most so many seconds; None: any time.

    A call that goes on after them is left behind in its thread, since nothing can end it.

    Raises:
        DataError: as `called`, or the time is over.
    """
    if timeout_s is None:
        return called(what, function, *arguments, **named)
    outcomes: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((called(what, function, *arguments, **named), None))
        except BaseException as error:
            outcomes.put((None, error))

    threading.Thread(target=run, name="relax-own-call", daemon=True).start()
    try:
        result, error = outcomes.get(timeout=timeout_s)
    except queue.Empty:
        raise _too_late(what, timeout_s) from None
    if error is not None:
        raise error
    return cast("Result", result)


async def awaited(
    what: str, timeout_s: float | None, function: Callable[..., Awaitable[Result]], /, **named: Any
) -> Result:
    """As `called_within`, for a coroutine function; its call is cancelled when the time is over."""
    with _SignsOfLife(what):
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await function(**named)
        except RelaxError:
            raise
        except Exception as error:
            # The function's own TimeoutError is its fault, not ours.
            raise (_too_late(what, timeout_s or 0.0) if limit.expired() else _raised(what, error)) from error


def _raised(what: str, error: Exception) -> DataError:
    words = " ".join(str(error).split())[:300]
    return DataError(
        f"{what} raised {type(error).__name__}{f': {words}' if words else ''}{_line_of(error)}; fix it there."
    )


def _too_late(what: str, timeout_s: float) -> DataError:
    return DataError(
        f"{what} did not return within {timeout_s:g} s; fix what it waits for, or give it a longer timeout."
    )


def as_scores(values: Any, count: int, what: str) -> list[float | None]:
    """What a reward function returned, as one number or None for each completion; NaN is None.

    Lists, tuples, NumPy arrays and tensors of one dimension are taken, and so are their numbers.

    Raises:
        DataError: anything else, another number of values, or an integer too large for a float.
    """
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable) or inspect.isgenerator(values):
        raise DataError(f"{what} returned a {type(values).__name__} for {count} completions; return a list of numbers.")
    scores = list(values)
    if len(scores) != count:
        raise DataError(f"{what} returned {len(scores)} values for {count} completions; return one for each.")
    return [_score(value, what) for value in scores]


def _score(value: Any, what: str) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        score = float(value)
    except OverflowError:
        raise DataError(
            f"{what} returned an integer that no float can hold; return a number of moderate size."
        ) from None
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{what} returned {value!r:.80}, which is neither a number nor None.") from None
    return None if math.isnan(score) else score


def _line_of(error: BaseException) -> str:
    """The last line of the traceback that is the user's own."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return f" in line {frames[-1].lineno} of {_short(frames[-1].filename)}" if frames else ""


def _is_users(file: str) -> bool:
    return not (file.startswith((_OWN_PACKAGE, "<")) or any(part in file for part in _INSTALLED))


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _SignsOfLife:
    """Says that a call goes on, after 30 s, 60 s, 120 s, ...; costs the start of a thread where the call is short."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="relax-own-code", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        # Without this, a thread that has just woken says that the call goes on after it has returned.
        self._thread.join()

    def _watch(self) -> None:
        begin, wait_s = time.monotonic(), FIRST_SIGN_S
        while not self._done.wait(wait_s):
            seconds = time.monotonic() - begin
            _logger.warning("%s has run for %.0f s and goes on; Ctrl-C stops it.", self._what, seconds)
            wait_s = seconds
