"""``relax`` commands in forks of this process, which has imported everything, so that none of them imports it again."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "Fork", "run", "warm_up"]

# Before torch is imported: forks must find no thread but their own.
for _name, _value in {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(_name, _value)

Prepare = Callable[[], None]
"""Called in the fork before the command: puts a fault in."""

_LIMIT_S = 600.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; minus the signal that killed it.
        output: all that it printed.
    """

    code: int
    output: str

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output

    @property
    def error(self) -> str:
        """The sentence of a command that was refused or failed in order; empty for another end."""
        lines = [line for line in self.output.splitlines() if line.startswith("relax: error: ")]
        return lines[-1] if lines and self.code == 2 and not self.has_traceback else ""

    @property
    def last_line(self) -> str:
        return (self.output.strip().splitlines() or [""])[-1]


class Fork:
    """One command that runs.

    Args:
        words: after ``relax``.
        folder: to run in.
        log: receives its output.
        prepare: see `Prepare`.
        file_size: bytes that it may write into one file; None: any.
    """

    def __init__(
        self, words: list[str], folder: Path, log: Path, prepare: Prepare | None = None, file_size: int | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(words, folder, log, prepare, file_size)

    def is_running(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is None

    _code: int | None = None

    def send(self, number: int) -> None:
        """A signal, if the command still runs."""
        if self.is_running():
            os.kill(self.pid, number)

    def wait(self, limit_s: float = _LIMIT_S) -> Ended:
        """Its end. Raises ``TimeoutError`` after killing a command that does not end."""
        until = time.monotonic() + limit_s
        while self.is_running():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"still running after {limit_s:g} s; see {self._log}")
            time.sleep(0.01)
        assert self._code is not None
        return Ended(self._code, self._log.read_text("utf-8", errors="replace"))


def run(
    words: list[str], folder: Path, log: Path, prepare: Prepare | None = None, file_size: int | None = None
) -> Ended:
    """Run one command to its end."""
    return Fork(words, folder, log, prepare, file_size).wait()


def warm_up(config: Path, folder: Path) -> None:
    """Import what the commands import, which a rehearsal in this process does; it writes nothing."""
    from relax_rl.cli.main import main

    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", str(config), "--dry-run", "--output", str(folder / "rehearsal")]) == 0


def _become(
    words: list[str], folder: Path, log: Path, prepare: Prepare | None, file_size: int | None
) -> None:  # never returns
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.chdir(folder)
        if file_size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        if prepare is not None:
            prepare()
        from relax_rl.cli.main import main

        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    except BaseException:  # as the interpreter would
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)
