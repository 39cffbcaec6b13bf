"""Imports without the garbage collector."""

import gc

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
