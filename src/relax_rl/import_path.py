"""Objects by their import path: methods, tasks and verifiers of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["resolve"]


def resolve(target: str) -> Callable[..., Any]:
    """The object named by ``package.module:name``; raises ImportError, AttributeError, ValueError or TypeError."""
    module_name, separator, attribute = target.partition(":")
    if not (module_name and separator and attribute):
        raise ValueError(f"'{target}' does not have the form package.module:name")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"'{target}' is not callable")
    return found
