"""The objective that a run's settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, RunLimits, build_objective, method_options
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.training.inputs.providers import check_provided

__all__ = ["build_objective_from"]


def build_objective_from(config: TrainConfig, own: Objective | None = None) -> Objective:
    """The objective of a run, which knows the run's limits and whose inputs the trainer can provide.

    Args:
        config: the run's settings.
        own: an objective object in place of the method that the settings name; it is monitored and checked alike.

    Raises:
        ConfigError: for a method or setting that does not exist, an input that nobody provides, or more observables
            than a completion can bear.
    """
    given = {name: value for name, value in config.dictionary.model_dump().items() if value is not None}
    objective = own or _named(config.objective.name, config.objective.options, given, _limits(config))
    if objective.probe is None and config.monitor:
        objective = objective.monitored(DictionarySettings.parse(given, DictionarySettings()))
    if objective.probe is not None:
        _check_observables(objective.probe.settings.num_observables, config.trainer.max_completion_length)
    check_provided(objective)
    return objective


def _named(name: str, options: Mapping[str, Any], dictionary: Mapping[str, Any], limits: RunLimits) -> Objective:
    if "dictionary" in options:
        raise ConfigError("'objective.dictionary' is not set there; use 'dictionary.KEY', such as dictionary.steps.")
    if "dictionary" in method_options(name):
        options = {**options, "dictionary": dictionary}
    return build_objective(name, limits=limits, **options)


def _limits(config: TrainConfig) -> RunLimits:
    trainer = config.trainer
    return RunLimits(trainer.max_completion_length, trainer.num_generations, trainer.max_steps)


def _check_observables(num_observables: int, max_completion_length: int) -> None:
    num_pairs = max_completion_length - 1
    if num_observables >= num_pairs:
        raise ConfigError(
            f"dictionary.num_observables = {num_observables} needs completions of more snapshot pairs than that, but "
            f"trainer.max_completion_length = {max_completion_length} gives at most {num_pairs}; set "
            f"dictionary.num_observables to {max(num_pairs // 3, 1)}, or allow longer completions."
        )
