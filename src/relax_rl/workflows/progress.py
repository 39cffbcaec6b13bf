"""What a workflow tells its caller while it works: the only thing that comes out of it before its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Progress", "silent"]


@dataclass(frozen=True)
class Progress:
    """One message, or one step of a count.

    Attributes:
        message: a sentence for people; empty for a step of the count.
        done, total: units finished, and in all, such as samples; 0 of 0 for a message.
    """

    message: str = ""
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]
"""Receives every `Progress` of a workflow, in order, in the process and thread that called it."""


def silent(progress: Progress) -> None:
    """Tell nobody."""
