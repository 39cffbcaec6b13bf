"""Imports without the garbage collector, whose work they multiply."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["without_collection"]


@contextmanager
def without_collection() -> Generator[None]:
    """No garbage collection meanwhile, unless the caller has none in any case.

    The modules of torch, transformers and TRL make a million objects that all stay. The collector looks for garbage
    among them again and again, a seventh of the processor time of the import.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
