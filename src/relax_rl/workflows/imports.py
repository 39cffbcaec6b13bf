"""Imports without the garbage collector, whose work they multiply."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["without_collection"]


@contextmanager
def without_collection() -> Generator[None]:
    """No garbage collection meanwhile, unless the caller has none in any case.

    The modules of torch, transformers and TRL make a million objects that all stay. The collector looks for garbage
    among them again and again, a seventh of the processor time of the import. After the first import of torch in a
    process it passes them over for good: going through them took 1.5 s of a run's first ten.
    """
    was_enabled, is_first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
        # Not later than that: a model or a trainer that is frozen while it lives is never freed, if it is in a cycle.
        if is_first:
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
