"""The rank of this process in a launch, from the variables that ``torchrun`` and its like set."""

from __future__ import annotations

import os

__all__ = ["is_first_process"]


def is_first_process() -> bool:
    """Whether this process looks, writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"
