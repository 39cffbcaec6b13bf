"""What every verifier promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

__all__ = ["Verifier"]


@runtime_checkable
class Verifier(Protocol):
    """Grades completions against gold answers, in bounded time, whatever a policy wrote.

    A score is 1.0 (right) or 0.0 (wrong), or anything between for a verifier that documents partial credit. ``None``
    means *could not be scored*: the gold answer is unreadable, or the grader ran into its limit. It is never a polite
    0.0; callers leave such a completion out of means and out of the loss, and count it.
    """

    @property
    def name(self) -> str:
        """Short name for metric keys and tables, such as ``"countdown"``."""
        ...

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        """Score ``completions[i]`` against the gold ``answers[i]``.

        Both sequences have the same length, else ``DataError``. Completions are untrusted text and never raise.
        """
        ...
