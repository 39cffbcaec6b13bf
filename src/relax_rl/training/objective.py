"""From a run's settings to its objective."""

from __future__ import annotations

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, build_objective, method_options
from relax_rl.objectives.probe import DictionarySettings

__all__ = ["build_objective_from"]


def build_objective_from(config: TrainConfig, own: Objective | None = None) -> Objective:
    """The objective that a run's settings describe.

    Args:
        own: an objective object in place of the method that the settings name; it is monitored and checked alike.

    Raises:
        ConfigError: for a method or setting that does not exist, or more observables than a completion can bear.
    """
    given = {name: value for name, value in config.dictionary.model_dump().items() if value is not None}
    options = config.objective.options
    if "dictionary" in options:
        raise ConfigError("'objective.dictionary' is not set there; use 'dictionary.KEY', such as dictionary.steps.")
    if own is not None:
        objective = own
    elif "dictionary" in method_options(config.objective.name):
        objective = build_objective(config.objective.name, **options, dictionary=given)
    else:
        objective = build_objective(config.objective.name, **options)
    if objective.probe is None and config.monitor:
        objective = objective.monitored(DictionarySettings.parse(given, DictionarySettings()))
    if objective.probe is not None:
        _check_observables(objective.probe.settings.num_observables, config.trainer.max_completion_length)
    return objective


def _check_observables(num_observables: int, max_completion_length: int) -> None:
    num_pairs = max_completion_length - 1
    if num_observables >= num_pairs:
        raise ConfigError(
            f"dictionary.num_observables = {num_observables} needs completions of more snapshot pairs than that, but "
            f"trainer.max_completion_length = {max_completion_length} gives at most {num_pairs}; set "
            f"dictionary.num_observables to {max(num_pairs // 3, 1)}, or allow longer completions."
        )
