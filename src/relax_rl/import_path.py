"""Objects by their import path: who may name one, and what it must be before anything calls it.

Importing a module runs its code. The words of a command and the arguments of a Python call are the user's own, and may
name any module. What is read from a file (a config, the ``config.json`` of a run, the ``settings.json`` of an
evaluation) is data: a module that it names is imported only if the user allows that module by name.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from relax_rl.errors import ConfigError

__all__ = ["TASK_FAMILIES", "is_own_task", "require_allowed", "resolve", "resolve_own"]

TASK_FAMILIES = ("reasoning_gym:",)
"""Beginnings of task names that hold a colon and are no import path."""


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


def resolve_own(target: str, is_expected: Callable[[Any], bool], expected: str) -> Any:
    """A user's object at an import path, found to be of the expected kind. Nothing calls it here.

    The current folder is searched last, so that a module in it hides no installed one.

    Args:
        is_expected: whether an object is of that kind; it must not call the object.
        expected: the kind in words, for the error.

    Raises:
        ImportError, AttributeError, ValueError: nothing is there.
        TypeError: it is not of that kind, or it belongs to Python's standard library.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    found = resolve(target)
    if _is_of_python_itself(found) or not is_expected(found):
        raise TypeError(f"it is not {expected}")
    return found


def _is_of_python_itself(found: Any) -> bool:
    """Whether the standard library defines it: such a function runs programs or deletes files, and grades nothing."""
    owner = found if inspect.isclass(found) or inspect.isroutine(found) else type(found)
    module = getattr(owner, "__module__", None) or "builtins"
    return module.partition(".")[0] in sys.stdlib_module_names


def is_own_task(name: str) -> bool:
    """Whether a task's name is an import path."""
    return ":" in name and not name.startswith(TASK_FAMILIES)


def require_allowed(named: Mapping[str, str], allow_code: Collection[str], where: str) -> None:
    """Refuse import paths that a file names, unless the user allowed their modules.

    Args:
        named: import paths by the key that holds them.
        allow_code: allowed modules; a package stands for all modules in it.
        where: the file, for the error.

    Raises:
        ConfigError: a module that is not allowed, with the option that would allow it; or an entry of ``allow_code``
            that is no module.
    """
    for module in allow_code:
        if not _is_module_name(module):
            raise ConfigError(f"--allow-code takes the name of a module, such as own_task, not {module!r}")
    modules = {key: path.partition(":")[0] for key, path in named.items()}
    for key, module in modules.items():
        # The flag is printed to be copied into a shell.
        if not _is_module_name(module):
            raise ConfigError(f"{where} has {key} = {named[key]!r}, which is not of the form package.module:name")
    refused = {key: module for key, module in modules.items() if not _is_in(module, allow_code)}
    if refused:
        listed = ", ".join(f"{key} = {named[key]!r}" for key in refused)
        flags = " ".join(f"--allow-code {module}" for module in dict.fromkeys(refused.values()))
        raise ConfigError(
            f"{where} names code to import, {listed}, and a file cannot allow that itself; if you trust this code, add "
            f"{flags} (in Python: allow_code={list(dict.fromkeys(refused.values()))})"
        )


def _is_module_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _is_in(module: str, allowed: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)
