"""Signals come as in a terminal, however the tests were started: a shell starts background jobs with some ignored.

And what was imported is left out of garbage collection. Every training ends with a full one, and going through all of
torch, transformers and sympy takes 0.3 s each time.
"""

import gc
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Here every module is imported, and nothing was run."""
    gc.collect()
    gc.freeze()
