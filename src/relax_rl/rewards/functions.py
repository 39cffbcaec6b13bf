"""Reward functions of the user in TRL's signature, and what training pays by: a verifier, such functions, or both."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from relax_rl.config import VerifierConfig
from relax_rl.errors import ConfigError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.callables import load_own
from relax_rl.rewards.registry import configured_verifier

__all__ = ["RewardFunction", "Rewards", "configured_rewards", "is_asynchronous", "takes_columns"]

_OF_TRL = {"prompts", "completion_ids", "trainer_state", "log_extra", "log_metric"}


@dataclass(frozen=True)
class RewardFunction:
    """A function that TRL calls by keyword: ``prompts``, ``completions``, every column of the data, ``trainer_state``.

    Attributes:
        function: synchronous or a coroutine function; it returns a number for each completion, or None where it does
            not apply.
        name: for messages and metrics.
        weight: of its scores in the reward.
        timeout_s: seconds that one call may take; None: any time.
    """

    function: Callable[..., Any]
    name: str
    weight: float = 1.0
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.weight):
            raise ConfigError(f"The weight of the reward function '{self.name}' is {self.weight!r}; give a number.")
        if self.timeout_s is not None and not (_is_number(self.timeout_s) and self.timeout_s > 0):
            raise ConfigError(
                f"The timeout of the reward function '{self.name}' is {self.timeout_s!r}; give seconds above 0."
            )


@dataclass(frozen=True)
class Rewards:
    """What training pays by: the sum of a verifier's scores and those of reward functions, by their weights."""

    verifier: Verifier | None
    functions: tuple[RewardFunction, ...] = ()


def takes_columns(function: Callable[..., Any]) -> bool:
    """Whether a function is to be called as TRL does, by keyword, and not with completions and gold answers."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "completions" not in parameters:
        return takes_any and len(parameters) == 1
    return "answers" not in parameters and (takes_any or bool(_OF_TRL & parameters.keys()))


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    found: Any = function
    while isinstance(found, functools.partial):
        found = found.func
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)


def configured_rewards(setting: str | VerifierConfig | Sequence[VerifierConfig] | None, own: Verifier) -> Rewards:
    """What a run's settings ask training to pay by.

    Args:
        setting: as for `configured_verifier`. The name of a function in TRL's signature may have a ``weight`` and a
            ``timeout`` in seconds.
        own: the task's verifier.

    Raises:
        ConfigError: as `configured_verifier`; a weight or a timeout that is none.
    """
    if setting is None:
        return Rewards(own)
    if isinstance(setting, str):
        setting = VerifierConfig(name=setting)
    parts = [setting] if isinstance(setting, VerifierConfig) else list(setting)
    functions = [_function(part) for part in parts]
    if not any(functions):
        return Rewards(configured_verifier(setting, own))
    rest = [part for part, function in zip(parts, functions, strict=True) if function is None]
    chosen = tuple(function for function in functions if function is not None)
    names = [function.name for function in chosen]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"The reward function '{twice}' is named twice; name it once, with the sum of the weights.")
    if not rest:
        return Rewards(None, chosen)
    # One verifier alone keeps its own name in the metrics.
    return Rewards(configured_verifier(rest[0] if len(rest) == 1 else rest, own), chosen)


def _function(part: VerifierConfig) -> RewardFunction | None:
    """The named function if it has TRL's signature; None for a verifier of any other kind."""
    if ":" not in part.name:
        return None
    function = load_own(part.name)
    if not takes_columns(function):
        return None
    options = dict(part.options)
    weight, timeout = options.pop("weight", 1.0), options.pop("timeout", None)
    if options:
        raise ConfigError(f"The reward function '{part.name}' has no option '{next(iter(options))}'.")
    return RewardFunction(function, part.name.rpartition(":")[2], weight, timeout)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
