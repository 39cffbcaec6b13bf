"""Files that are whole or not there: JSON, JSON lines, and what half-done writes leave behind."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relax_rl.errors import RunError

__all__ = [
    "append_line",
    "append_whole",
    "is_temporary",
    "json_line",
    "json_lines",
    "plain",
    "read_rows",
    "remove_temporaries",
    "sync",
    "write_whole",
]

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+")


def write_whole(path: Path, text: str) -> None:
    """Write a file or, when that fails, leave the one that was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file or, when that fails, cut off what was written of it.

    Raises:
        RunError: the line cannot be written, as on a full disk.
    """
    try:
        append_whole(path, line.encode() + b"\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}; make room or give permission, then resume the run") from error


def append_whole(path: Path, data: bytes) -> None:
    """Add bytes to a file or, when that fails, leave it as it was; they are with the operating system on return.

    Raises:
        OSError: they cannot be written whole: a full disk, a quota, no permission.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        length = os.fstat(file).st_size
        try:
            _write_all(file, data)
        except BaseException:
            # Half a line would be glued to the next one.
            os.ftruncate(file, length)
            raise
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    """All of it: a write near the end of the room may take a part and say so by its count alone."""
    view = memoryview(data)
    while view:
        count = os.write(file, view)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[count:]


def is_temporary(path: Path) -> bool:
    """Whether a file is one of those that `write_whole` writes before it renames them."""
    return path.is_file() and _TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path) -> list[Path]:
    """Remove what writers that were killed left of `write_whole` in a folder. Nobody else may be writing there."""
    found = [path for path in folder.glob(".*") if is_temporary(path)]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a folder, on the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_line(row: Mapping[str, Any]) -> str:
    """A row of a JSON lines file, without its end of line; what is not finite becomes null."""
    return json.dumps(plain(row), ensure_ascii=False, allow_nan=False)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON lines file without a half-written last one; none where there is no file.

    Raises:
        RunError: a row other than the last is broken.
    """
    if not path.exists():
        return
    lines = path.read_text("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise RunError(f"row {number} of {path} is not JSON ({error.msg}); fix or remove that line") from error


def plain(value: Any) -> Any:
    """Numbers, strings, lists and tables only; a number that is not finite becomes ``None``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # scalars and arrays of numpy and torch, neither of which is imported here
        return plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of a JSON lines file."""
    return "".join(json_line(row) + "\n" for row in rows)
