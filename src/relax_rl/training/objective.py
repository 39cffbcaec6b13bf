"""The objective that a run's settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, RunLimits, build_objective, idle_settings, method_options
from relax_rl.objectives.probe import DictionarySettings, DispersionProbe
from relax_rl.training.inputs.providers import check_provided

__all__ = ["build_objective_from", "idle_parts", "objective_for"]


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
    _check_observables(objective.probe, config.trainer.max_completion_length)
    check_provided(objective)
    return objective


def idle_parts(config: TrainConfig, objective: Objective, updates_per_rollout: int) -> list[str]:
    """Parts of a run's method without effect, for good or at first, in a sentence each.

    Args:
        config: the run's settings, which name the method.
        objective: built from them.
        updates_per_rollout: updates on one rollout batch.
    """
    name, sentences = config.objective.name, []
    idle, is_all = idle_settings(name, config.objective.options) if updates_per_rollout == 1 else ([], False)
    if idle:
        listed = ", ".join(f"objective.{key}" for key in idle)
        plain = f", and {name} is the plain policy gradient" if is_all else ""
        sentences.append(
            f"A rollout batch serves one update, so every ratio is 1: {listed} of {name} "
            f"{'have' if len(idle) > 1 else 'has'} no effect{plain}. For several updates raise "
            "trainer.steps_per_generation or trainer.num_iterations."
        )
    sentences += [f"{term} of {name} adds nothing before {event}." for term, event in objective.waits_for.items()]
    return sentences


def objective_for(objective: str | Objective, options: Mapping[str, Any], args: Any) -> Objective:
    """The objective of a script of one's own, which knows the script's limits.

    Args:
        objective: a method's name, ``package.module:function``, or an objective.
        options: settings of a method given by name.
        args: TRL's configuration.

    Raises:
        ConfigError: as `build_objective_from`, or for settings of an objective that is built already.
    """
    if not isinstance(objective, str | Objective):
        raise ConfigError(
            f"objective is a {type(objective).__name__}; give a method's name, 'package.module:function', or a "
            "relax_rl.objectives.Objective."
        )
    if isinstance(objective, Objective):
        if options:
            raise ConfigError(
                f"objective_options {', '.join(options)} are for a method given by name; set them where the objective "
                "is built."
            )
        built = objective
    else:
        updates = args.max_steps if args.max_steps > 0 else None
        built = build_objective(
            objective, limits=RunLimits(args.max_completion_length, args.num_generations, updates), **options
        )
    setting = "objective_options['dictionary']['num_observables']"
    _check_observables(built.probe, args.max_completion_length, setting, "max_completion_length")
    check_provided(built)
    return built


def _named(name: str, options: Mapping[str, Any], dictionary: Mapping[str, Any], limits: RunLimits) -> Objective:
    if "dictionary" in options:
        raise ConfigError("'objective.dictionary' is not set there; use 'dictionary.KEY', such as dictionary.steps.")
    if "dictionary" in method_options(name):
        options = {**options, "dictionary": dictionary}
    return build_objective(name, limits=limits, **options)


def _limits(config: TrainConfig) -> RunLimits:
    trainer = config.trainer
    return RunLimits(trainer.max_completion_length, trainer.num_generations, trainer.max_steps)


def _check_observables(
    probe: DispersionProbe | None,
    max_completion_length: int | None,
    setting: str = "dictionary.num_observables",
    limit: str = "trainer.max_completion_length",
) -> None:
    if probe is None or max_completion_length is None:
        return
    fitted = probe.dictionary
    num_observables = probe.settings.num_observables if fitted is None else fitted.num_observables
    num_pairs = max_completion_length - 1
    if num_observables >= num_pairs:
        raise ConfigError(
            f"{setting} = {num_observables} needs completions of more snapshot pairs than that, but {limit} = "
            f"{max_completion_length} gives at most {num_pairs}; set {setting} to {max(num_pairs // 3, 1)}, or allow "
            "longer completions."
        )
