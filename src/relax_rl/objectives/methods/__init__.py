"""The methods by name, one file each, and one's own by import path.

A method is a function that returns an `Objective`. Its settings are one parameter, a `MethodSettings`, or simply its
keyword parameters; a parameter called ``limits`` receives the run's `RunLimits`. A file is imported when its method is
asked for, so every method stands or falls alone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.errors import PydanticSchemaGenerationError

from relax_rl.errors import ConfigError
from relax_rl.import_path import resolve, resolve_own
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import MethodSettings, nearest, parsed

__all__ = ["METHODS", "build_objective", "idle_settings", "is_verified", "method_options", "method_settings"]

_HERE = "relax_rl.objectives.methods"

METHODS: dict[str, str] = {
    "grpo": f"{_HERE}.grpo:grpo",
    "relax": f"{_HERE}.relax:relax",
    "relax_as_run": f"{_HERE}.relax_as_run:relax_as_run",
    "dr_grpo": f"{_HERE}.dr_grpo:dr_grpo",
    "dapo": f"{_HERE}.dapo:dapo",
    "gspo": f"{_HERE}.gspo:gspo",
    "cispo": f"{_HERE}.cispo:cispo",
    "entropy_bonus": f"{_HERE}.entropy_bonus:entropy_bonus",
    "kl_cov": f"{_HERE}.kl_cov:kl_cov",
    "clip_cov": f"{_HERE}.clip_cov:clip_cov",
    "simple_rl": f"{_HERE}.simple_rl:simple_rl",
    "r1_zero_div": f"{_HERE}.r1_zero_div:r1_zero_div",
    "entropy_advantage": f"{_HERE}.entropy_advantage:entropy_advantage",
    "forking_tokens": f"{_HERE}.forking_tokens:forking_tokens",
    "pass_at_k": f"{_HERE}.pass_at_k:pass_at_k",
    "grpo_passk": f"{_HERE}.grpo_passk:grpo_passk",
    "ce_gppo": f"{_HERE}.ce_gppo:ce_gppo",
    "aspo": f"{_HERE}.aspo:aspo",
    "dcpo": f"{_HERE}.dcpo:dcpo",
    "adaptive_entropy_bonus": f"{_HERE}.adaptive_entropy_bonus:adaptive_entropy_bonus",
    "scheduled_entropy_bonus": f"{_HERE}.scheduled_entropy_bonus:scheduled_entropy_bonus",
    "entrocraft": f"{_HERE}.entrocraft:entrocraft",
    "hicra": f"{_HERE}.hicra:hicra",
    "cw_grpo": f"{_HERE}.cw_grpo:cw_grpo",
    "htpo": f"{_HERE}.htpo:htpo",
    "erc": f"{_HERE}.erc:erc",
    "opefo": f"{_HERE}.opefo:opefo",
    "dmpo": f"{_HERE}.dmpo:dmpo",
    "flow_rl": f"{_HERE}.flow_rl:flow_rl",
    "rank_shaping": f"{_HERE}.rank_shaping:rank_shaping",
    "rep_exp": f"{_HERE}.rep_exp:rep_exp",
    "g2rl": f"{_HERE}.g2rl:g2rl",
    "sr_grpo": f"{_HERE}.sr_grpo:sr_grpo",
    "log_det": f"{_HERE}.log_det:log_det",
    "maxrl": f"{_HERE}.maxrl:maxrl",
    "tailrl": f"{_HERE}.tailrl:tailrl",
    "rs_grpo": f"{_HERE}.rs_grpo:rs_grpo",
    "f_grpo": f"{_HERE}.f_grpo:f_grpo",
    "pkpo": f"{_HERE}.pkpo:pkpo",
    "w_reinforce": f"{_HERE}.w_reinforce:w_reinforce",
    "rloo": f"{_HERE}.rloo:rloo",
    "gmpo": f"{_HERE}.gmpo:gmpo",
    "sapo": f"{_HERE}.sapo:sapo",
    "luspo": f"{_HERE}.luspo:luspo",
    "mode_max_rl": f"{_HERE}.mode_max_rl:mode_max_rl",
    "coverage": f"{_HERE}.coverage:coverage",
    "poly_epo": f"{_HERE}.poly_epo:poly_epo",
    "mara": f"{_HERE}.mara:mara",
    "reinforce_pp": f"{_HERE}.reinforce_pp:reinforce_pp",
    "differential_smoothing": f"{_HERE}.differential_smoothing:differential_smoothing",
    "repo_r": f"{_HERE}.repo_r:repo_r",
    "outcome_exploration": f"{_HERE}.outcome_exploration:outcome_exploration",
    "elliptical_counts": f"{_HERE}.elliptical_counts:elliptical_counts",
    "latent_coverage": f"{_HERE}.latent_coverage:latent_coverage",
    "dph_rl": f"{_HERE}.dph_rl:dph_rl",
    "recoverability_floor": f"{_HERE}.recoverability_floor:recoverability_floor",
    "latent_anchor": f"{_HERE}.latent_anchor:latent_anchor",
    "papo": f"{_HERE}.papo:papo",
    "vppo": f"{_HERE}.vppo:vppo",
    "image_credit": f"{_HERE}.image_credit:image_credit",
}
"""Every method of the package, by its name: where its function stands, as one's own would be given."""


_A_METHOD = "a method, that is a function whose return annotation is relax_rl.objectives.Objective"


def _is_method(found: Any) -> bool:
    """By the annotation alone: nothing is called before it is known to be a method."""
    if not inspect.isfunction(found):
        return False
    returned = typing.get_type_hints(found).get("return")
    return inspect.isclass(returned) and issubclass(returned, Objective)


@dataclass(frozen=True)
class _Method:
    """A method's function, and how it takes its settings."""

    name: str
    function: Callable[..., object]
    settings: type[BaseModel]
    takes_settings_object: bool
    takes_limits: bool

    @classmethod
    def named(cls, name: str) -> _Method:
        """Raises ConfigError for a name that is unknown, or a path at which there is no method."""
        if name not in METHODS and ":" not in name:
            raise ConfigError(
                f"The objective {name!r} does not exist;{nearest(name, METHODS)} Your own is package.module:function."
            )
        try:
            function: Any = resolve(METHODS[name]) if name in METHODS else resolve_own(name, _is_method, _A_METHOD)
            hints = typing.get_type_hints(function)
            parameters = dict(inspect.signature(function).parameters)
        except (ImportError, AttributeError, NameError, TypeError, ValueError) as error:
            raise ConfigError(
                f"The objective {name!r} cannot be loaded: {error}; give package.module:function."
            ) from error
        takes_limits = parameters.pop("limits", None) is not None
        declared = [hints.get(key) for key in parameters]
        if len(declared) == 1 and inspect.isclass(declared[0]) and issubclass(declared[0], MethodSettings):
            return cls(name, function, declared[0], True, takes_limits)
        return cls(name, function, _settings_of(name, parameters, hints), False, takes_limits)

    def build(self, limits: RunLimits, options: dict[str, Any]) -> Objective:
        settings = parsed(self.settings, self.name, options)
        objective = self._built(settings, limits, options)
        if self.takes_settings_object and typing.cast(MethodSettings, settings).match_rms:
            return objective.matched()
        return objective

    def _built(self, settings: BaseModel, limits: RunLimits, options: dict[str, Any]) -> Objective:
        given: dict[str, Any] = {"limits": limits} if self.takes_limits else {}
        if self.takes_settings_object:
            objective: object = self.function(settings, **given)
        else:
            objective = self.function(**given, **{key: getattr(settings, key) for key in options})
        if not isinstance(objective, Objective):
            raise ConfigError(
                f"The objective {self.name!r} is no method: its function must return a "
                f"relax_rl.objectives.Objective, but returned {type(objective).__name__}."
            )
        return objective


def _settings_of(name: str, parameters: dict[str, inspect.Parameter], hints: dict[str, Any]) -> type[BaseModel]:
    """The settings that a function declares by its keyword parameters, of the types that it annotates."""
    fields: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise ConfigError(f"The objective {name!r} is no method: write its settings out, instead of *{key}.")
        if parameter.default is parameter.empty:
            raise ConfigError(f"The objective {name!r} is no method: its setting {key!r} needs a default.")
        fields[key] = (hints.get(key, Any), parameter.default)
    config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)
    try:
        return create_model(name, __config__=config, **fields)
    except (PydanticSchemaGenerationError, NameError) as error:
        raise ConfigError(f"The objective {name!r} is no method: {error}") from error


def method_options(name: str) -> dict[str, Any]:
    """The settings of a method and their defaults, the method's own first.

    Args:
        name: name of a method of the package, or ``package.module:function``.

    Raises:
        ConfigError: for a method that does not exist (naming the nearest), or a function that is none.
    """
    settings = _Method.named(name).settings
    defaults = {key: field.default for key, field in settings.model_fields.items()}
    own = {key: defaults[key] for key in settings.__annotations__ if key in defaults}
    return own | defaults


def method_settings(name: str) -> tuple[Callable[..., object], type[BaseModel]]:
    """The function of a method, and the class of its settings.

    Raises:
        ConfigError: as `method_options`.
    """
    method = _Method.named(name)
    return method.function, method.settings


def idle_settings(name: str, given: Iterable[str] = ()) -> tuple[list[str], bool]:
    """The settings of a method without effect where every ratio is 1: its own ones, and those that were given.

    Args:
        name: as for `method_options`.
        given: names of settings that differ from the defaults.

    Returns:
        Their names, and whether the method has no other settings of its own: it is the plain policy gradient then.

    Raises:
        ConfigError: as `method_options`.
    """
    method = _Method.named(name)
    if not method.takes_settings_object:
        return [], False
    settings = typing.cast(type[MethodSettings], method.settings)
    idle, own = settings.idle_on_policy(), [key for key in settings.__annotations__ if key in settings.model_fields]
    spoken_of = {*own, *given}
    return [key for key in settings.model_fields if key in idle & spoken_of], bool(own) and idle.issuperset(own)


def is_verified(name: str) -> bool:
    """Whether a method's formula was read at its source; one's own is one's own to verify.

    Raises:
        ConfigError: as `method_options`.
    """
    method = _Method.named(name)
    return not method.takes_settings_object or bool(typing.cast(type[MethodSettings], method.settings).verified)


def build_objective(name: str, limits: RunLimits | None = None, **options: Any) -> Objective:
    """An objective by its name, with the method's settings.

    Args:
        name: name of a method of the package, or ``package.module:function`` for one's own.
        limits: limits of the run, for methods that depend on them; None outside a run.
        options: settings that differ from the method's defaults.

    Raises:
        ConfigError: for a method or setting that does not exist (naming the nearest), a function that is no method, or
            a value of the wrong type or out of range.
    """
    return _Method.named(name).build(limits or RunLimits(), options)
