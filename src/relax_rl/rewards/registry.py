"""From a verifier's name to the verifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from relax_rl.config import VerifierConfig
from relax_rl.config.messages import did_you_mean
from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.callables import CallableVerifier, WeightedVerifiers
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.format import FormatVerifier
from relax_rl.rewards.mathematics.answers import ChoiceVerifier, ExactVerifier, NumericVerifier
from relax_rl.rewards.mathematics.verifier import MathVerifier
from relax_rl.rewards.maze import MazeVerifier
from relax_rl.rewards.overlong import SoftOverlongPenalty
from relax_rl.rewards.subset_sum import SubsetSumVerifier

__all__ = ["build_verifier", "configured_verifier", "verifier_names"]

_VERIFIERS: dict[str, Callable[..., Verifier]] = {
    "math": MathVerifier,
    "numeric": NumericVerifier,
    "exact": ExactVerifier,
    "choice": ChoiceVerifier,
    "countdown": CountdownVerifier,
    "subset_sum": SubsetSumVerifier,
    "maze": MazeVerifier,
    "format": FormatVerifier,
    "soft_overlong": SoftOverlongPenalty,
}


def verifier_names() -> tuple[str, ...]:
    """The names that ``build_verifier`` knows without an import path."""
    return tuple(_VERIFIERS)


def build_verifier(name: str, **options: Any) -> Verifier:
    """The verifier ``name`` with its options, or the user's function at ``package.module:function``.

    Raises:
        ConfigError: an unknown name or option (with the nearest one), an option that is missing or out of range, or a
            function that cannot be imported.
    """
    if ":" in name:
        if options:
            raise ConfigError(f"The verifier '{name}' is a function and has no option '{next(iter(options))}'.")
        return CallableVerifier(name)
    if name not in _VERIFIERS:
        raise ConfigError(
            f"There is no verifier '{name}'{did_you_mean(name, list(_VERIFIERS))} Your own is package.module:function."
        )
    parameters = inspect.signature(_VERIFIERS[name]).parameters
    for option in options:
        if option not in parameters:
            raise ConfigError(f"The verifier '{name}' has no option '{option}'{did_you_mean(option, list(parameters))}")
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigError(f"The verifier '{name}' needs the option '{parameter.name}'.")
    try:
        return _VERIFIERS[name](**options)
    except TypeError as error:  # a text where a number belongs
        raise ConfigError(f"The verifier '{name}' cannot be built with {options}: {error}.") from error


def configured_verifier(setting: str | VerifierConfig | Sequence[VerifierConfig] | None, own: Verifier) -> Verifier:
    """The verifier that a run's settings ask for.

    Args:
        setting: a name or import path, a name with options, or several of them with a ``weight`` each (1 if not given).
        own: the task's verifier, for None and for the name ``task``.

    Raises:
        ConfigError: as ``build_verifier``, or for a weight that is no number.
    """
    if setting is None:
        return own
    if isinstance(setting, str):
        setting = VerifierConfig(name=setting)
    if isinstance(setting, VerifierConfig) and "weight" not in setting.options:
        return _configured(setting.name, setting.options, own)
    parts = [setting] if isinstance(setting, VerifierConfig) else setting
    members = []
    for part in parts:
        options = dict(part.options)
        weight = options.pop("weight", 1.0)
        members.append((_configured(part.name, options, own), weight))
    return WeightedVerifiers(members)


def _configured(name: str, options: dict[str, Any], own: Verifier) -> Verifier:
    if name == "task" and options:
        raise ConfigError(f"The verifier 'task' is the task's own and has no option '{next(iter(options))}'.")
    return own if name == "task" else build_verifier(name, **options)
