"""Imports without the garbage collector."""

import gc
import subprocess
import sys

import pytest

from relax_rl.workflows.imports import without_collection


def fail(seen: list[bool]) -> None:
    seen.append(gc.isenabled())
    raise ImportError("nothing there")


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_collector_is_as_it_was_after_an_import_that_failed(is_enabled: bool) -> None:
    before, seen = gc.isenabled(), list[bool]()
    try:
        (gc.enable if is_enabled else gc.disable)()
        with pytest.raises(ImportError, match="nothing"), without_collection():
            fail(seen)
        assert (seen, gc.isenabled()) == ([False], is_enabled)
    finally:
        (gc.enable if before else gc.disable)()


FROZEN = """
import gc, sys
from relax_rl.workflows.imports import without_collection
with without_collection():
    import {module}
first = gc.get_freeze_count()
with without_collection():
    import json
print(first, gc.get_freeze_count())
"""


@pytest.mark.parametrize(("prelude", "is_frozen"), [("", True), ("import torch", False)])
def test_only_what_comes_with_the_first_import_of_torch_is_passed_over(prelude: str, is_frozen: bool) -> None:
    code = prelude + FROZEN.format(module="torch")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, second = map(int, done.stdout.split())
    assert (first > 10_000) is is_frozen
    assert second <= first
