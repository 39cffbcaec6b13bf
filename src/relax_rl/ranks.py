"""Which process of a launch this is, by what ``torchrun`` and its like set in the environment."""

from __future__ import annotations

import os

__all__ = ["is_first_process"]


def is_first_process() -> bool:
    """Whether this process looks, writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"
