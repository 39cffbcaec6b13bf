"""Starts of a run's training, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["start_in_words"]


def start_in_words(start: Mapping[str, Any]) -> str:
    """A row of ``starts.jsonl`` as one line."""
    count, strategy = start["processes"], start["strategy"]
    shared = strategy if count == 1 else f"{strategy} on {count} processes"
    versions = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
    computed = f"{start['precision']}; attention {start['attention']}; rollouts by {start['rollouts']}"
    return f"from update {start['update']}: {shared}; {computed}; {start['hardware']}; {versions}"
