"""Errors that the user can fix.

Every message is one sentence that says what is wrong, where, and how to fix it. The command line prints it and exits
with code 2. Each kind is also the built-in error that fits it, so that ``except ValueError`` in a caller's code works.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "DependencyError",
    "ModelError",
    "NumericalError",
    "RelaxError",
    "RunError",
    "note_what_is_kept",
    "notes_of_kept",
]


class RelaxError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(RelaxError, ValueError):
    """A setting that is unknown, out of range, or does not fit another setting."""


class DataError(RelaxError, ValueError):
    """A tensor, row, file or dataset that is not what was promised."""


class ModelError(RelaxError, RuntimeError):
    """A model that cannot be loaded, or does not do what the method needs of it."""


class RunError(RelaxError, OSError):
    """A run directory that exists already, is not one, or cannot be written."""


class DependencyError(RelaxError, ImportError):
    """A package that is missing or of a version that was not tested."""


class NumericalError(RelaxError, FloatingPointError):
    """Numbers that are not finite, of which too many came or which stand in the weights."""


_KEPT = "relax: "


def note_what_is_kept(error: BaseException, words: str) -> None:
    """Note on an exception that ended a run what of the run is on disk, and can be continued."""
    error.add_note(_KEPT + words)


def notes_of_kept(error: BaseException) -> list[str]:
    """Notes of `note_what_is_kept`, such as "update 48 of 100 is kept in runs/a/checkpoints/checkpoint-48"."""
    return [note.removeprefix(_KEPT) for note in getattr(error, "__notes__", ()) if note.startswith(_KEPT)]
