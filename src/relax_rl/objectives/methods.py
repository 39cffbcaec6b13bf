"""The methods by name. Each is one function: its parameters are its settings, their defaults are the paper's."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, TokenMean
from relax_rl.objectives.baselines import BASELINES
from relax_rl.objectives.kl import KLEstimator
from relax_rl.objectives.latent_methods import LATENT_METHODS
from relax_rl.objectives.moving_methods import MOVING_METHODS
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.probe import (
    DictionaryOption,
    DictionarySettings,
    DispersionProbe,
    Padding,
    StateAlignment,
)
from relax_rl.objectives.regularizers import (
    AdvantageShaping,
    KLGate,
    KLReduction,
    LatentExploration,
    MeanScope,
    ReferenceKL,
)
from relax_rl.objectives.signal_methods import SIGNAL_METHODS
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.token_methods import TOKEN_METHODS
from relax_rl.objectives.weighting_methods import WEIGHTING_METHODS

__all__ = ["METHODS", "build_objective", "method_options"]


def grpo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    kl_estimator: KLEstimator = "k3",
    epsilon: float = 1e-4,
) -> Objective:
    """Group relative policy optimisation (arXiv 2402.03300).

    loss = -(1/B) sum_i (1/T_i) sum_t min(r A, clip(r) A) + beta KL(policy || reference).
    """
    return Objective(
        name="grpo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=(ReferenceKL(beta, gate="all", reduction="completion_mean", estimator=kl_estimator),),
    )


def relax(
    *,
    alpha: float = 0.1,
    beta: float = 0.01,
    xi: float | str = 25.0,
    dictionary: DictionaryOption = None,
    estimator: str = "paper",
    advantage_shaping: AdvantageShaping = "positive",
    suspend_above_xi: bool = True,
    mean_scope: MeanScope = "group",
    kl_gate: KLGate = "above_xi",
    kl_reduction: KLReduction = "group_sum",
    kl_estimator: KLEstimator = "k3",
    state_alignment: StateAlignment = "completion",
    padding: Padding = "masked",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    epsilon: float = 1e-4,
) -> Objective:
    """ReLaX as published (arXiv 2512.07558, Table 3): GRPO + alpha * Eq. 10 + beta * Eq. 11.

    One deviation: the dictionary is fitted by the relative residual unless its settings say otherwise; see
    `DictionarySettings`. xi = 25 is the paper's number for its models and reading; on another model take
    ``xi="quantile:0.9"``.
    """
    probe = DispersionProbe.parse(dictionary, DictionarySettings(), xi, estimator, state_alignment, padding)
    return Objective(
        name="relax",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=(
            LatentExploration(alpha, advantage_shaping, suspend_above_xi, mean_scope),
            ReferenceKL(beta, kl_gate, kl_reduction, kl_estimator),
        ),
        probe=probe,
    )


AS_RUN_DICTIONARY = DictionarySettings(
    steps=None, learning_rate=1e-3, batch_size=64, fit_objective="as_run", max_positions=512, refit_interval=50
)


def relax_as_run(
    *,
    alpha: float = 0.1,
    beta: float = 0.01,
    xi: float | str = 10.0,
    dictionary: DictionaryOption = None,
    estimator: str = "singular",
    advantage_shaping: AdvantageShaping = "positive_by_length",
    suspend_above_xi: bool = True,
    mean_scope: MeanScope = "micro_batch",
    kl_gate: KLGate = "above_xi_and_positive",
    kl_reduction: KLReduction = "token_mean",
    kl_estimator: KLEstimator = "k3",
    state_alignment: StateAlignment = "predicting",
    padding: Padding = "zeros",
    clip_low: float = 1.0,
    clip_high: float = 1.0,
    epsilon: float = 1e-6,
) -> Objective:
    """ReLaX with every choice of the authors' working code, where it differs from the paper.

    Singular values in place of eigenvalues, the padded tail inside the trajectory, weights that grow with length, the
    mean over the micro-batch, a KL only for completions with positive advantage, the ratio clipped to [0, 2], means
    over tokens (verl's default), and a dictionary refitted every 50 updates, for one epoch, by their loss.

    The padded width is that of the batch it is given. verl pads to the longest response allowed, TRL to the longest of
    the rollout batch: there the tail is shorter and the weights are larger.
    """
    probe = DispersionProbe.parse(dictionary, AS_RUN_DICTIONARY, xi, estimator, state_alignment, padding)
    return Objective(
        name="relax_as_run",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(
            LatentExploration(alpha, advantage_shaping, suspend_above_xi, mean_scope),
            ReferenceKL(beta, kl_gate, kl_reduction, kl_estimator),
        ),
        probe=probe,
    )


METHODS: dict[str, Callable[..., Objective]] = {
    "grpo": grpo,
    "relax": relax,
    "relax_as_run": relax_as_run,
    **BASELINES,
    **TOKEN_METHODS,
    **MOVING_METHODS,
    **WEIGHTING_METHODS,
    **LATENT_METHODS,
    **SIGNAL_METHODS,
}


def method_options(name: str) -> dict[str, Any]:
    """The settings of a method and their defaults.

    Raises:
        ConfigError: for a method that does not exist, naming the nearest.
    """
    if name not in METHODS:
        raise ConfigError(f"The objective {name!r} does not exist;{_nearest(name, METHODS)}")
    return {key: parameter.default for key, parameter in inspect.signature(METHODS[name]).parameters.items()}


def build_objective(name: str, **options: Any) -> Objective:
    """An objective by its name, with the method's settings.

    Raises:
        ConfigError: for a method or setting that does not exist (naming the nearest), or a value out of range.
    """
    known = method_options(name)
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"The objective {name!r} has no setting {key!r};{_nearest(key, known)}")
        default = known[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, float) and key != "xi" and not is_number:
            raise ConfigError(f"objective.{key} is {value!r}; give a number, such as {default}.")
        if isinstance(default, int) and not isinstance(default, bool) and not (is_number and value == int(value)):
            raise ConfigError(f"objective.{key} is {value!r}; give a whole number, such as {default}.")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ConfigError(f"objective.{key} is {value!r}; give true or false.")
    return METHODS[name](**options)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {close[0]!r}?" if close else f" there are {', '.join(sorted(known))}."
