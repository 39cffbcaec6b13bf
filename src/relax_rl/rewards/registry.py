"""From a verifier's name to the verifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from relax_rl.config.messages import did_you_mean
from relax_rl.errors import ConfigError
from relax_rl.rewards.answers import ChoiceVerifier, ExactVerifier, NumericVerifier
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.callables import CallableVerifier
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.rewards.format import FormatVerifier
from relax_rl.rewards.math import MathVerifier
from relax_rl.rewards.overlong import SoftOverlongPenalty

__all__ = ["build_verifier", "verifier_names"]

_VERIFIERS: dict[str, Callable[..., Verifier]] = {
    "math": MathVerifier,
    "numeric": NumericVerifier,
    "exact": ExactVerifier,
    "choice": ChoiceVerifier,
    "countdown": CountdownVerifier,
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
