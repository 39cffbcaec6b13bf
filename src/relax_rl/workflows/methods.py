"""The methods in words: what each is, where it comes from, and what its options mean."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relax_rl.objectives.methods import METHODS, is_verified, method_options, method_settings

__all__ = ["MethodEntry", "MethodOption", "method_entries", "method_entry"]

_PAPER = re.compile(r" \(arXiv [\d.]+\)")
_ATTRIBUTE = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): (?P<words>.*(?:\n {8}.*)*)", re.MULTILINE)
_ELSEWHERE = re.compile(r"[Ss]ee `(\w+)`[.;]?\s*")


@dataclass(frozen=True)
class MethodOption:
    """A setting of a method: its name, its default, and what it means; "" where its name says all that is said."""

    name: str
    default: Any
    about: str


@dataclass(frozen=True)
class MethodEntry:
    """A method in words.

    Attributes:
        name: for `build_objective` and ``--objective.name``.
        paper: its arXiv number; None where there is none.
        about: description in one line.
        is_verified: whether its formula was read at its source.
        options: the method's own first.
    """

    name: str
    paper: str | None
    about: str
    is_verified: bool
    options: tuple[MethodOption, ...]


def method_entries() -> list[MethodEntry]:
    """Every method of the package, in the order of `METHODS`."""
    return [method_entry(name) for name in METHODS]


def method_entry(name: str) -> MethodEntry:
    """A method of the package, or one's own as ``package.module:function``.

    Raises:
        ConfigError: for a method that does not exist (naming the nearest), or a function that is none.
    """
    function, settings = method_settings(name)
    module = sys.modules[function.__module__]
    words = inspect.cleandoc(module.__doc__ or function.__doc__ or "").partition("\n\n")[0]
    meanings = _meanings(settings, vars(module))
    return MethodEntry(
        name=name,
        paper=getattr(settings, "paper", None),
        about=_PAPER.sub("", " ".join(words.split())),
        is_verified=is_verified(name),
        options=tuple(MethodOption(key, value, meanings.get(key, "")) for key, value in method_options(name).items()),
    )


def _meanings(settings: type[Any], names: Mapping[str, Any]) -> dict[str, str]:
    """Meanings from the docstrings of a settings class, of the parts of its method, and of its bases, for each
    attribute; the first words count.

    Args:
        names: names of the method's module, where its parts are.
    """
    found: dict[str, str] = {}
    parts = [part for part in names.values() if inspect.isclass(part) and part is not settings]
    for kind in (settings, *parts, *settings.__mro__[1:]):
        known = names if kind is settings else vars(sys.modules[kind.__module__])
        for key, words in _attributes(kind).items():
            elsewhere = _ELSEWHERE.match(words)
            if elsewhere is not None and elsewhere[1] in known:
                words = _attributes(known[elsewhere[1]]).get(key, "")
            if words:
                found.setdefault(key, words)
    return found


def _attributes(kind: type[Any]) -> dict[str, str]:
    """The attributes in a class's own docstring: the section of that name, in Google's style."""
    _, _, section = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("\nAttributes:\n")
    return {
        key: " ".join(match["words"].split())
        for match in _ATTRIBUTE.finditer(section)
        for key in match["names"].split(", ")
    }
