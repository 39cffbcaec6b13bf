"""The objective that verl's actor configuration names, where verl can give all that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.objectives import METHODS, Objective, RunLimits, build_objective
from relax_rl.objectives.inputs import ENTROPY, HIDDEN_STATES, OLD_ENTROPY, REF_LOG_PROBS, TOKEN_CHOICE, Input

__all__ = ["GIVEN", "check_inputs", "objective_named", "trainable_methods"]

GIVEN: frozenset[Input] = frozenset({ENTROPY, OLD_ENTROPY, REF_LOG_PROBS, HIDDEN_STATES, TOKEN_CHOICE})
"""The optional inputs that the engine makes from what verl hands it."""


def check_inputs(objective: Objective) -> None:
    """Refuse a method that reads what verl cannot give.

    Raises:
        ConfigError: naming the method and the input.
    """
    for wanted in sorted(objective.inputs - GIVEN, key=lambda one: one.name):
        raise ConfigError(
            f"The objective {objective.name!r} reads the input {wanted.name!r} ({wanted.about}), which verl does not "
            "give; train it with `relax train`, or choose another objective."
        )


def objective_named(name: str, options: Mapping[str, Any], limits: RunLimits) -> Objective:
    """The objective of a run by verl.

    Raises:
        ConfigError: as `relax_rl.objectives.build_objective`, or for an input that verl does not give.
    """
    objective = build_objective(name, limits, **options)
    check_inputs(objective)
    return objective


def trainable_methods() -> tuple[list[str], dict[str, str]]:
    """The methods of the package that verl can train with their defaults, and why it cannot train the others."""
    able: list[str] = []
    refused: dict[str, str] = {}
    for name in METHODS:
        try:
            check_inputs(build_objective(name, RunLimits(1024, 16, 100)))
            able.append(name)
        except ConfigError as error:
            refused[name] = str(error)
    return able, refused
