"""Signals come as in a terminal, however the tests were started: a shell starts background jobs with some ignored.

Two things that every training asks for are cheap. What was imported is left out of garbage collection: every
training ends with a full one, and going through all of torch, transformers and sympy takes 0.3 s each time. And
accelerate looks through the metadata of installed packages several times an update to learn whether peft is there,
which took a tenth of the time of a small training; no test installs a package.

Compiled files are written while the tests are collected, and not by the tests: a test may write one module twice in the
same second, and Python would take the compiled first one for the second.
"""

import functools
import gc
import os
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Here every module is imported, and nothing was run."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if "accelerate.utils.imports" in sys.modules:
        imports = sys.modules["accelerate.utils.imports"]
        imports._is_package_available = functools.cache(imports._is_package_available)  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()
