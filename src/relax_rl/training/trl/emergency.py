"""A training that ends by an exception: its last update is kept, and a disk's fault is told from a defect."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from relax_rl.errors import RelaxError, RunError

__all__ = ["disk_fault", "keep_last_update"]

_ERRNOS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device fails",
    errno.EACCES: "there is no permission",
    errno.EPERM: "there is no permission",
}
_CUT_OFF = ("unexpected pos", "PytorchStreamWriter failed", "inline_container")
"""torch's words about a file that it could not write to its end: it does not know why."""


class KeepsLastUpdate(Protocol):
    """A trainer that can save its last finished update from wherever it was interrupted since."""

    def save_last_update(self) -> Path | None: ...


def keep_last_update(trainer: KeepsLastUpdate, error: Exception) -> Path | None:
    """Save what an exception would lose, if it can be resumed from.

    Args:
        error: error that ended the training.

    Returns:
        The checkpoint; None where there is none to keep: before the first update, where the folder cannot be written or
        is another process's by now, and where the weights are not finite.
    """
    if isinstance(error, RunError) or disk_fault(error) is not None:
        return None
    try:
        return trainer.save_last_update()
    except (RelaxError, OSError, RuntimeError, SafetensorError):
        # The first error is the one to be told; what is half written has no manifest.
        return None


def disk_fault(error: BaseException) -> str | None:
    """In words, why a file could not be written; None for an exception that says nothing of the kind."""
    text = str(error)
    match error:
        case RelaxError():
            return None
        case OSError():
            words = _ERRNOS.get(error.errno or 0)
            place = f"{error.filename}: " if error.filename else ""
            return None if words is None else f"{place}{words}"
        case SafetensorError() if "os error" in text:
            known = (words for number, words in _ERRNOS.items() if f"(os error {number})" in text)
            return next(known, text)
        case RuntimeError() if any(sign in text for sign in _CUT_OFF):
            return "a file could not be written to its end, as on a full disk"
        case _:
            return None
