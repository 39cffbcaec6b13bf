"""Lock of a folder: one process at a time, known by host and number, and by a sign of life."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from relax_rl.errors import RunError
from relax_rl.runs.files import is_temporary

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK_FILE", "FolderLock", "Owner", "is_unstarted"]

LOCK_FILE = ".lock"
_BEAT_SECONDS = 15.0
_SILENT_SECONDS = 90.0
"""An owner elsewhere that has not touched its lock for so long is gone."""


@dataclass(frozen=True)
class Owner:
    """The process that works in a folder.

    Attributes:
        host, pid: for people, and for processes on the same host.
        place: the running system and its process numbers; two containers may share a host name, not this.
        began: when the process began, in the system's clock ticks: numbers of processes are used again.
        since: local time at which the folder was taken.
        token: token of this lock.
    """

    host: str
    pid: int
    place: str
    began: str
    since: str
    token: str

    @classmethod
    def this_process(cls) -> Owner:
        """This one, with a token of its own."""
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), _place(), _began(os.getpid()), since, uuid.uuid4().hex)

    @classmethod
    def of(cls, folder: Path) -> Owner | None:
        """Holder of a folder's lock; None if nobody holds it, or its lock was cut off as it was written."""
        try:
            return cls(**json.loads((folder / LOCK_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether this process could see it."""
        return self.place == _place()

    def is_alive(self, folder: Path) -> bool:
        """Whether it still works: the process itself where it can be seen, its sign of life otherwise."""
        if self.is_here:
            return _exists(self.pid) and _began(self.pid) == self.began
        return self.silent_for(folder) < _SILENT_SECONDS

    def silent_for(self, folder: Path) -> float:
        """Seconds since its last sign of life, by the clock of the file system."""
        try:
            return max(0.0, _now_at(folder) - (folder / LOCK_FILE).stat().st_mtime)
        except OSError:
            return float("inf")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class FolderLock:
    """The right to write in a folder.

    A file system may know nothing of locks on other machines, so the file says who took the folder, and a thread
    touches it while the owner lives. `flock` only keeps two processes from reading and writing it at once.

    Args:
        folder: folder that is taken.
        what: the folder's content, a run or a comparison, for people.
    """

    def __init__(self, folder: Path, what: str = "run") -> None:
        self._folder = folder
        self._what = what
        self._owner: Owner | None = None
        self._stop = threading.Event()

    @property
    def path(self) -> Path:
        """The lock's file."""
        return self._folder / LOCK_FILE

    def check_free(self) -> None:
        """Raises RunError while another process works in the folder."""
        owner = Owner.of(self._folder)
        if owner is None or not owner.is_alive(self._folder):
            return
        if owner.is_here:
            raise RunError(
                f"{owner} is at work on the {self._what} {self._folder}; wait for it, stop it, or choose another "
                "folder with --output DIR"
            )
        raise RunError(
            f"{owner} is at work on the {self._what} {self._folder} (last sign of life "
            f"{owner.silent_for(self._folder):.0f} s ago); stop it, or try again {_SILENT_SECONDS:.0f} s after it ended"
        )

    def acquire(self) -> Owner | None:
        """Take the folder, which must exist.

        Returns:
            The owner elsewhere that has given no sign of life for long, if the folder was taken from one.

        Raises:
            RunError: another process works in the folder.
        """
        with self._file() as file:
            self.check_free()
            gone, owner = Owner.of(self._folder), Owner.this_process()
            file.truncate()
            file.write(json.dumps(asdict(owner)).encode())
            file.flush()
            os.fsync(file.fileno())
        self._owner, self._stop = owner, threading.Event()
        threading.Thread(target=self._beat, args=(owner, self._stop), daemon=True, name="folder-lock").start()
        return None if gone is None or gone.is_here else gone

    def check_held(self) -> None:
        """Raises RunError where another process has taken the folder since; does nothing if it was never taken."""
        if self._owner is None:
            return
        owner = Owner.of(self._folder)
        if owner is None or owner.token != self._owner.token:
            by = "its lock was removed" if owner is None else f"{owner} has taken it over"
            raise RunError(f"this process no longer owns the {self._what} {self._folder}: {by}; it stops here")

    def release(self) -> None:
        """Give the folder back; does nothing if it was never taken, or is another's by now."""
        owner, self._owner = self._owner, None
        self._stop.set()
        if owner is None:
            return
        with contextlib.suppress(OSError), self._file():
            now = Owner.of(self._folder)
            if now is not None and now.token == owner.token:
                self.path.unlink()

    @contextlib.contextmanager
    def held(self) -> Generator[Owner | None]:
        """Inside, the folder is this process's; it is made, and removed again where nothing was written into it.

        Yields:
            What `acquire` returns.

        Raises:
            RunError: another process works in the folder, or it cannot be made.
        """
        is_new = not self._folder.exists()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            gone = self.acquire()
        except RunError:
            raise
        except OSError as error:
            raise RunError(
                f"cannot write the {self._what} directory {self._folder}: {error}; choose another with --output DIR"
            ) from error
        try:
            yield gone
        finally:
            self.release()
            if is_new and self._folder.is_dir() and not any(self._folder.iterdir()):
                self._folder.rmdir()

    def _beat(self, owner: Owner, stop: threading.Event) -> None:
        while not stop.wait(_BEAT_SECONDS):
            now = Owner.of(self._folder)
            if now is None or now.token != owner.token:
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)

    @contextlib.contextmanager
    def _file(self) -> Generator[IO[bytes]]:
        """The lock's file, for this process alone where the file system can do that."""
        while True:
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                if fcntl is not None:
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_EX)
                # Its holder may have removed it meanwhile: then this is no longer the file of that name.
                if self.path.exists() and os.fstat(file.fileno()).st_ino == self.path.stat().st_ino:
                    yield file
                    return


def is_unstarted(folder: Path) -> bool:
    """Whether a folder holds nothing but what a process leaves that was killed before it wrote its settings."""
    return all(
        path.name == LOCK_FILE or is_temporary(path) or (path.is_dir() and not any(path.iterdir()))
        for path in folder.iterdir()
    )


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str:
    """When a process began; empty where the system does not say."""
    try:
        # The name, in parentheses, may hold anything; the 22nd field of all is the 20th after it.
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now_at(folder: Path) -> float:
    """The time by the clock that stamps files in a folder, which may be another machine's; else by one's own."""
    probe = folder / f".clock.{os.getpid()}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        return time.time()
    return now
