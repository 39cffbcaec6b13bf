"""The import paths in a run's settings, and which of them the user named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_rl.config.settings import TrainConfig, VerifierConfig
from relax_rl.import_path import is_own_task

__all__ = ["code_in", "code_modules", "names_in"]


def code_in(config: TrainConfig) -> dict[str, str]:
    """Import paths by the dotted key that names them; empty for a run that needs the package's own code alone."""
    named = {"task.name": config.task.name} if is_own_task(config.task.name) else {}
    if ":" in config.objective.name:
        named["objective.name"] = config.objective.name
    verifiers = config.verifier if isinstance(config.verifier, list) else [config.verifier]
    for place, verifier in enumerate(verifiers):
        name = verifier.name if isinstance(verifier, VerifierConfig) else verifier
        if name is not None and ":" in name:
            named["verifier" if place == 0 else f"verifier.{place}"] = name
    return named


def code_modules(config: TrainConfig) -> tuple[str, ...]:
    """The modules that `code_in` would import, each once."""
    return tuple(dict.fromkeys(path.partition(":")[0] for path in code_in(config).values()))


def names_in(overrides: Mapping[str, Any]) -> frozenset[str]:
    """Names of a task, an objective and verifiers in settings that are not checked yet."""
    return frozenset().union(*(_names(overrides.get(key)) for key in ("task", "objective", "verifier")))


def _names(given: Any) -> frozenset[str]:
    if isinstance(given, str):
        return frozenset([given])
    if isinstance(given, Mapping):
        return _names(given.get("name"))
    return frozenset().union(*map(_names, given)) if isinstance(given, list) else frozenset()
