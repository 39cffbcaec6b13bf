"""How a batch's hidden states are lifted and become one dispersion for each completion.

The probe is what ReLaX's terms share: the dictionary and how it is fitted, the estimator, which states form a
completion's trajectory, and the bound xi. It is immutable; `DispersionProbe.calibrated` returns the probe with the
dictionary and xi that the first rollout batch gave.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import Estimator, KoopmanDictionary, dispersion_from_lifted, dynamic_spectral_dispersion
from relax_rl.koopman.pairs.snapshots import exclude_nonfinite
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import HIDDEN_STATES

__all__ = [
    "DictionaryOption",
    "DictionarySettings",
    "DispersionBound",
    "DispersionProbe",
    "GroupDispersion",
    "LiftedStates",
]

_CHUNK_NUMBERS = 2**15
_CHUNKS = 64
"""Lifted states are summed so many numbers at a time, or in so many chunks where they are many."""

StateAlignment = Literal["completion", "predicting"]
Padding = Literal["masked", "zeros"]


@dataclass(frozen=True)
class DictionarySettings:
    """How the dictionary is fitted on rollouts.

    The paper (supplement): F = 50, Adam with learning rate 1e-4, batches of 64 trajectories, on the first rollout batch
    of the initial policy, then frozen; it does not give the number of steps. We take the relative residual in place of
    the printed one (Eq. 8), whose minimum is a collapsed dictionary, and a learning rate at which a few hundred steps
    suffice; ``fit_objective="paper"`` and ``learning_rate=1e-4`` are the printed choices. Of the relative residual, a
    fifth of the completions chooses the step. Hidden channels are scaled to unit root mean square, on which the paper
    is silent (docs/reference/koopman.md); the scale is a part of W.

    Attributes:
        num_observables: F.
        steps: optimiser steps of the fit; None is one pass over the trajectories in batches.
        learning_rate: learning rate of Adam.
        batch_size: trajectories in a step.
        fit_objective: a loss that `KoopmanDictionary.fit` knows.
        max_trajectories: at most so many completions of the rollout batch are used.
        max_positions: only so many first tokens of each completion are used; None means all. The default
            bounds what a fit costs: time and memory grow with the tokens, and completions may have thousands.
        refit_interval: optimiser updates between two fits; None means that the first fit stays (the paper). A fit needs
            a fresh rollout batch, and is made on the first one after a multiple of the interval.
        seed: seed of the start and of the batches; the run's own random numbers are not touched.
    """

    num_observables: int = 50
    steps: int | None = 200
    learning_rate: float = 1e-2
    batch_size: int = 64
    fit_objective: str = "relative_residual"
    max_trajectories: int = 512
    max_positions: int | None = 512
    refit_interval: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_observables", "batch_size", "max_trajectories"):
            if getattr(self, name) < 1:
                raise ConfigError(f"dictionary.{name} must be at least 1, but is {getattr(self, name)}.")
        if self.steps is not None and self.steps < 0:
            raise ConfigError(f"dictionary.steps must not be negative, but is {self.steps}.")
        if self.refit_interval is not None and self.refit_interval < 1:
            raise ConfigError("dictionary.refit_interval must be at least 1; leave it out to fit once.")

    @classmethod
    def parse(
        cls, value: DictionarySettings | Mapping[str, Any] | None, base: DictionarySettings
    ) -> DictionarySettings:
        """Settings from a mapping of the fields that differ from `base`.

        Raises:
            ConfigError: for a field that does not exist, naming those that do.
        """
        if value is None:
            return base
        if isinstance(value, DictionarySettings):
            return value
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise ConfigError(f"dictionary.{unknown[0]} is not a setting; there are {', '.join(known)}.")
        return replace(base, **value)

    def chosen(self, trajectories: list[Tensor]) -> list[Tensor]:
        """Trajectories (T_i, H) for the fit of the dictionary: limited in number and in first positions."""
        return [trajectory[: self.max_positions] for trajectory in trajectories[: self.max_trajectories]]

    def fit(self, trajectories: list[Tensor]) -> KoopmanDictionary:
        """The dictionary for these trajectories, each (T_i, H)."""
        return KoopmanDictionary.fit(
            self.chosen(trajectories),
            num_observables=self.num_observables,
            steps=self.steps,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            objective=self.fit_objective,  # type: ignore[arg-type]
            seed=self.seed,
        )


@dataclass(frozen=True)
class DispersionBound:
    """The bound xi above which a trajectory's dispersion is no longer encouraged and its KL is switched on (Eq. 11).

    A number means something for one model, length and estimator only (the paper prints 25 and elsewhere 10), so a
    quantile of the first rollout batch can stand in its place: ``DispersionBound.parse("quantile:0.9")``.

    Attributes:
        value: xi, or None until the first batch has given it.
        quantile: in (0, 1), where xi is relative to the first batch.
    """

    value: float | None = None
    quantile: float | None = None

    @classmethod
    def parse(cls, xi: float | str | DispersionBound) -> DispersionBound:
        """From a number, a number in text, or ``"quantile:0.9"``.

        Raises:
            ConfigError: when it is none of these.
        """
        if isinstance(xi, DispersionBound):
            return xi
        text = str(xi).strip()
        is_quantile = text.startswith("quantile:")
        try:
            number = float(text.removeprefix("quantile:"))
        except ValueError:
            number = float("nan")
        if is_quantile and 0 < number < 1:
            return cls(quantile=number)
        if not is_quantile and number >= 0:
            return cls(value=number)
        raise ConfigError(f"xi is {xi!r}; give a number that is not negative, or 'quantile:q' with q between 0 and 1.")

    def calibrated(self, dispersion: Tensor) -> DispersionBound:
        """With xi read off the defined dispersions of a batch, where it is a quantile and not known yet.

        Raises:
            DataError: when the batch has no defined dispersion at all.
        """
        if self.value is not None:
            self._warn_if_unreachable(dispersion)
            return self
        if dispersion.numel() == 0:
            raise DataError(
                "xi is a quantile of the first rollout batch, but no completion of it has a defined dispersion; "
                "lower dictionary.num_observables, allow longer completions, or give xi as a number."
            )
        value = torch.quantile(dispersion.double(), self.quantile or 0.5).item()
        return replace(self, value=value)

    def _warn_if_unreachable(self, dispersion: Tensor) -> None:
        largest = dispersion.max().item() if dispersion.numel() else 0.0
        if self.quantile is None and self.value is not None and self.value > 10 * largest:
            warnings.warn(
                f"xi = {self.value:g}, but no completion of the first rollout batch has a dispersion above "
                f"{largest:.3g}, so the adaptive KL may never act; set xi to 'quantile:0.9' to read it off that batch.",
                stacklevel=2,
            )


DictionaryOption = KoopmanDictionary | DictionarySettings | Mapping[str, Any] | None
"""A fitted dictionary, or how to fit one; None is the method's own way."""


@dataclass(frozen=True)
class LiftedStates:
    """Observables of the states of a batch's completions.

    Attributes:
        values: (P, G, T, F), finite everywhere, with gradient; what stands at masked positions means nothing.
        mask: (P, G, T) bool: the tokens of each trajectory, none where a completion holds NaN or Inf.
        num_nonfinite: () completions left out for that.
        chunk_size: snapshot pairs taken at a time when they are summed; None takes all at once.
    """

    values: Tensor
    mask: Tensor
    num_nonfinite: Tensor
    chunk_size: int | None = None


@dataclass(frozen=True)
class GroupDispersion:
    """Dynamic spectral dispersion of each completion.

    Attributes:
        values: (P, G), with gradient; 0 where undefined.
        is_defined: (P, G) bool.
        spectral_radius: (P, G) largest modulus, no gradient.
        num_clamped: modes whose gradient was bounded because the operator is nearly defective.
        num_nonfinite: completions left out because of NaN or Inf in their hidden states.
        median_residual: (P, G) median ResDMD residual of the eigenpairs, NaN where undefined; None if not measured.
        dictionary_digest: digest of the dictionary that they were measured by.
    """

    values: Tensor
    is_defined: Tensor
    spectral_radius: Tensor
    num_clamped: Tensor
    num_nonfinite: Tensor
    median_residual: Tensor | None = None
    dictionary_digest: str | None = None


@dataclass(frozen=True)
class DispersionProbe:
    """Dispersion of every completion of a batch.

    Attributes:
        settings: settings of the dictionary's fit.
        bound: xi.
        estimator: "paper", "singular", "robust" or "instrumental"; see `relax_rl.koopman.dynamic_spectral_dispersion`.
        state_alignment: the states of the trajectory: those of the completion's tokens ("completion", the paper),
            or those that predict each of them ("predicting": the last prompt token to the last but one, as run by the
            authors). The caller that fills `RolloutBatch.hidden_states` reads it.
        padding: "masked" leaves padding out; "zeros" makes the padded tail a part of the trajectory, as zero vectors
            (what the authors ran).
        dictionary: None until the first rollout batch has been seen.
        is_log_only: no term reads the dispersion, so that a batch is not refused where it cannot be measured.
    """

    settings: DictionarySettings
    bound: DispersionBound
    estimator: str = "paper"
    state_alignment: StateAlignment = "completion"
    padding: Padding = "masked"
    dictionary: KoopmanDictionary | None = None
    is_log_only: bool = False

    @classmethod
    def parse(
        cls,
        dictionary: DictionaryOption,
        base: DictionarySettings,
        xi: float | str,
        estimator: str = "paper",
        state_alignment: StateAlignment = "completion",
        padding: Padding = "masked",
    ) -> DispersionProbe:
        """From a fitted dictionary, or from what differs from `base` in how it is fitted.

        Raises:
            ConfigError: for a value that does not exist.
        """
        fitted = dictionary if isinstance(dictionary, KoopmanDictionary) else None
        settings = base if isinstance(dictionary, KoopmanDictionary) else DictionarySettings.parse(dictionary, base)
        return cls(settings, DispersionBound.parse(xi), estimator, state_alignment, padding, fitted)

    def __post_init__(self) -> None:
        choices = {
            "estimator": get_args(Estimator),
            "state_alignment": ("completion", "predicting"),
            "padding": ("masked", "zeros"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}.")

    @property
    def is_calibrated(self) -> bool:
        return self.dictionary is not None and self.bound.value is not None

    def calibrated(self, hidden_states: Tensor, mask: Tensor) -> DispersionProbe:
        """With the dictionary fitted on these states, and xi where it is still open.

        Args:
            hidden_states: (B, T, H), of the rollout batch; no gradient is kept.
            mask: (B, T) bool.
        """
        dictionary = self.settings.fit(self.trajectories(hidden_states, mask))
        return self.with_dictionary(dictionary, self.dispersions(hidden_states, mask, dictionary))

    def trajectories(self, hidden_states: Tensor, mask: Tensor) -> list[Tensor]:
        """At most B trajectories (T_i, H) for the fit of a dictionary, from states (B, T, H) and mask (B, T)."""
        hidden_states, mask = self._trajectories(hidden_states.detach(), mask)
        # A completion with one broken state is left out of the fit, or its NaN would be in every observable.
        is_finite = (hidden_states.isfinite().all(-1) | ~mask).all(-1)
        return [states[keep] for states, keep in zip(hidden_states[is_finite], mask[is_finite], strict=True)]

    def dispersions(self, hidden_states: Tensor, mask: Tensor, dictionary: KoopmanDictionary) -> Tensor:
        """Those defined of states (B, T, H) and mask (B, T), measured by a dictionary: (N), N <= B, no gradient."""
        hidden_states, mask = self._trajectories(hidden_states.detach(), mask)
        measured = dynamic_spectral_dispersion(hidden_states, mask, dictionary, estimator=self.estimator)  # type: ignore[arg-type]
        return measured.values[measured.is_defined]

    def with_dictionary(self, dictionary: KoopmanDictionary, dispersion: Tensor) -> DispersionProbe:
        """With a dictionary, and with xi, where it is still open, read off dispersions (N) measured by it."""
        return replace(self, dictionary=dictionary, bound=self.bound.calibrated(dispersion))

    def lift(self, batch: RolloutBatch) -> LiftedStates:
        """The batch's completions in the dictionary's observables.

        Raises:
            ConfigError: when the dictionary or xi is still missing.
            DataError: when the batch carries no hidden states.
        """
        dictionary = self._fitted()
        group, given = batch.log_probs.shape[:2], batch.lifted_states
        if given is not None:
            if given.shape[-1] != dictionary.num_observables:
                raise DataError(
                    f"RolloutBatch.lifted_states has {given.shape[-1]} columns, but the dictionary "
                    f"{dictionary.num_observables} observables; lift by DispersionProbe.lifted_columns."
                )
            values, mask = self._lifted_trajectories(given.flatten(0, 1), batch.mask.flatten(0, 1), dictionary)
            lifted, mask, is_nonfinite = exclude_nonfinite(values, mask)
            # Float64 copies of all tokens would be many times what was saved.
            chunk_size = max(_CHUNK_NUMBERS, lifted.numel() // _CHUNKS) // (lifted.shape[0] * lifted.shape[2]) + 1
        else:
            chunk_size = None
            states, mask = self._trajectories(batch.required(HIDDEN_STATES).flatten(0, 1), batch.mask.flatten(0, 1))
            states, mask, is_nonfinite = exclude_nonfinite(states, mask)
            lifted = dictionary(states)
        return LiftedStates(lifted.unflatten(0, group), mask.unflatten(0, group), is_nonfinite.sum(), chunk_size)

    def lifted_columns(self, hidden_states: Tensor) -> Tensor:
        """(..., F) what `RolloutBatch.lifted_states` takes in place of hidden states (..., H), in float32.

        For callers that cannot keep, or must send, H columns of a token. NaN stands where a state is not finite: the
        lift of an infinite state is finite, and its completion must be left out all the same.

        Raises:
            ConfigError: when the dictionary is still missing.
        """
        is_finite = torch.isfinite(hidden_states.detach().sum(-1, dtype=torch.float32)).unsqueeze(-1)
        if is_finite.all():
            return self._fitted()(hidden_states)
        lifted = self._fitted()(torch.where(is_finite, hidden_states, 0.0))
        return torch.where(is_finite, lifted, torch.nan)

    def _fitted(self) -> KoopmanDictionary:
        if self.dictionary is None or self.bound.value is None:
            raise ConfigError(
                "The objective has no dictionary or no value for xi yet: pass dictionary=KoopmanDictionary.fit(...) "
                "and xi as a number, or call objective.calibrated(hidden_states, mask) with the first rollout batch."
            )
        return self.dictionary

    def measure(self, lifted: LiftedStates) -> tuple[GroupDispersion, float]:
        """Dispersion of a batch's completions, from what `lift` gave, and xi."""
        group = lifted.mask.shape[:2]
        measured = dispersion_from_lifted(
            lifted.values.flatten(0, 1),
            lifted.mask.flatten(0, 1),
            self.estimator,  # type: ignore[arg-type]
            chunk_size=lifted.chunk_size,
        )
        dispersion = GroupDispersion(
            values=measured.values.view(group),
            is_defined=measured.is_defined.view(group),
            spectral_radius=measured.spectral_radius.view(group),
            num_clamped=measured.num_clamped.sum(),
            num_nonfinite=lifted.num_nonfinite,
            median_residual=measured.median_residual.view(group),
            dictionary_digest=None if self.dictionary is None else self.dictionary.digest,
        )
        return dispersion, float("nan") if self.bound.value is None else self.bound.value

    def _trajectories(self, hidden_states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.padding == "masked":
            return hidden_states, mask
        return torch.where(mask.unsqueeze(-1), hidden_states, 0.0), torch.ones_like(mask)

    def _lifted_trajectories(
        self, lifted: Tensor, mask: Tensor, dictionary: KoopmanDictionary
    ) -> tuple[Tensor, Tensor]:
        if self.padding == "masked":
            return lifted, mask
        of_zero = dictionary(torch.zeros(1, dictionary.hidden_size, device=lifted.device))[0]
        return torch.where(mask.unsqueeze(-1), lifted, of_zero), torch.ones_like(mask)
