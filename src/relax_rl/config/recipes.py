"""The shipped configs for larger hardware, with the number to expect and where that number is published."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

__all__ = ["Recipe", "recipes"]


@dataclass(frozen=True)
class Recipe:
    """A shipped config and what it is for. None of them was run by us.

    Attributes:
        name: name of the config.
        hardware: as for ``relax train --dry-run --hardware``.
        about: model and method.
        source: source of the numbers.
        expected, start: percent by benchmark after training, and of the model that it starts from; empty where nobody
            published them.
    """

    name: str
    hardware: str
    about: str
    source: str
    expected: Mapping[str, float] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)


def recipes() -> list[Recipe]:
    """All of them, the smallest hardware first."""
    text = (files("relax_rl") / "assets" / "recipes.toml").read_text("utf-8")
    return [Recipe(**entry) for entry in tomllib.loads(text)["recipe"]]
