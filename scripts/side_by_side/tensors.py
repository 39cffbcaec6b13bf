"""How the objectives and batches of a revision are built, whatever its dialect. Imported inside a revision only."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from side_by_side import dialect


def located(name: str, package: str = "relax_rl.objectives") -> Any:
    """An attribute of a package or of any of its modules, which may have moved. None where there is none."""
    root = importlib.import_module(package)
    if hasattr(root, name):
        return getattr(root, name)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        module = importlib.import_module(found.name)
        if hasattr(module, name):
            return getattr(module, name)
    return None


def objective_names() -> dict[str, str]:
    """All methods, and the name under which `build_objective` knows each."""
    names = {name: name for name in located("METHODS")}
    for name in dialect.SIGNAL_METHODS:
        if name not in names and _exists(dialect.SIGNAL_MODULE):
            names[name] = f"{dialect.SIGNAL_MODULE}:{name}"
    return names


def options_of(method: str) -> list[str]:
    """The settings of a method."""
    module, _, function = objective_names()[method].rpartition(":")
    if module:
        return list(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
    return list(located("method_options")(method))


def build(method: str, settings: Mapping[str, Any], group_size: int) -> Any:
    """An objective. `settings` are those of the old dialect; a limit of the run goes where the revision wants it."""
    known, given = options_of(method), dict(settings)
    limits = {name: given.pop(name) for name in dialect.LIMIT_SETTINGS if name in given and name not in known}
    run_limits = located("RunLimits")
    if run_limits is None:
        return located("build_objective")(method, **given)
    numbers = {
        dialect.LENGTH_LIMIT: limits.get("max_tokens", dialect.DEFAULT_LENGTH),
        "group_size": group_size,
        "updates": 4,
    }
    named = _accepted(run_limits, numbers)
    return located("build_objective")(objective_names()[method], limits=run_limits(**named), **given)


def batch(tensors: Mapping[str, Any]) -> Any:
    """A `RolloutBatch` of tensors that have the names of the old dialect."""
    cls = located("RolloutBatch")
    known = {field.name for field in dataclasses.fields(cls)}
    plain = {name: value for name, value in tensors.items() if name in known}
    typed = {name: value for name, value in tensors.items() if name not in known}
    if not typed:
        return cls(**plain)
    inputs = importlib.import_module(dialect.INPUTS_MODULE)
    where = next(name for name in dialect.INPUTS_FIELDS if name in known)
    return cls(**plain, **{where: {getattr(inputs, name.upper()): value for name, value in typed.items()}})


def totals(num_prompts: int, num_completions: int, num_tokens: float) -> Any:
    """`UpdateTotals` of an update that is cut into parts."""
    return located("UpdateTotals")(num_prompts, num_completions, num_tokens)


def report(**figures: Any) -> Any:
    """`UpdateReport` of those figures that the revision knows."""
    cls = located("UpdateReport")
    return cls(**_accepted(cls, figures))


def calibrated(objective: Any, states: Tensor, mask: Tensor) -> Any:
    """The objective with its dictionary and bound, from states (P, G, T, H); itself where it has none."""
    if objective.is_calibrated:
        return objective
    return objective.calibrated(states.detach().flatten(0, 1), mask.flatten(0, 1))


def before_rollout(objective: Any, keys: Tensor, rewards: Tensor) -> Any:
    """The objective after it has seen the rewards (P, G) of a rollout batch."""
    if hasattr(objective, "before_rollout"):
        return objective.before_rollout(keys, rewards)
    return objective.remember(keys, rewards) if objective.remembers_prompts else objective


def after_rollout(objective: Any, rows: Tensor | None) -> Any:
    """The objective after it has seen the completions of a rollout batch."""
    if rows is None:
        return objective
    if hasattr(objective, "after_rollout"):
        return objective.after_rollout(rows)
    return objective.remember_completions(rows) if objective.remembers_completions else objective


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _accepted(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}
