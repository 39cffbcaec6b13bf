"""An objective: a named composition of components."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives.base import (
    Advantage,
    Aggregation,
    Component,
    GroupSignal,
    Measurements,
    ObjectiveOutput,
    Regularizer,
    SignalReading,
    Surrogate,
    TokenSelector,
    TokenWeights,
)
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.groups import grouped
from relax_rl.objectives.inputs import DISPERSION, HIDDEN_STATES, SIGNAL, TOKEN_CHOICE, Input
from relax_rl.objectives.matching import MatchedAdvantage, require_matchable
from relax_rl.objectives.probe import (
    DictionarySettings,
    DispersionBound,
    DispersionProbe,
    GroupDispersion,
    LiftedStates,
)
from relax_rl.objectives.updates import UpdateReport

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """loss = aggregation(surrogate(token_weights(advantage))) + sum of regularizers.

    Attributes:
        name: the method's name.
        advantage: rewards (P, G) to advantages (P, G).
        surrogate: the policy-gradient loss of each token.
        aggregation: kind of mean over tokens and completions.
        regularizers: terms added to the loss.
        probe: measures the dispersion, for methods that look at hidden states; it is measured (and logged) even where
            every coefficient is 0.
        token_weights: hands the advantage of a completion out to its tokens; None gives each token all of it.
        signal: signal that distinguishes the completions of a group, in the probe's observables; measured and logged
            like the dispersion, and read by those components that need "signal".
    """

    name: str
    advantage: Advantage
    surrogate: Surrogate
    aggregation: Aggregation
    regularizers: tuple[Regularizer, ...] = ()
    probe: DispersionProbe | None = None
    token_weights: TokenWeights | None = None
    signal: GroupSignal | None = None

    def __post_init__(self) -> None:
        if self.signal is not None and self.probe is None:
            raise ConfigError(f"The objective {self.name!r} has a signal, which reads lifted states; give it a probe.")

    @property
    def inputs(self) -> frozenset[Input]:
        """The optional inputs of `RolloutBatch` that this objective reads and does not make itself."""
        read: set[Input] = set() if self.probe is None else {HIDDEN_STATES}
        read |= set() if self.selector is None else {TOKEN_CHOICE}
        return frozenset(read.union(*(component.inputs() for component in self._readers)) - {SIGNAL, DISPERSION})

    @property
    def reads_lifted_states(self) -> bool:
        """Whether the hidden states are read through the probe's observables alone, so that `LIFTED_STATES` will do."""
        return self.probe is not None and all(HIDDEN_STATES not in part.inputs() for part in self._readers)

    @property
    def reads_predicting_states(self) -> bool:
        """Whether `HIDDEN_STATES` are to be those that predict each completion token, not those of the tokens."""
        return self.probe is not None and self.probe.state_alignment == "predicting"

    @property
    def reads_layout(self) -> bool:
        """Whether the loss of an update depends on how it is cut into micro-batches and padded."""
        pads = self.probe is not None and self.probe.padding == "zeros"
        return pads or any(component.reads_layout for component in self._components.values())

    @property
    def _readers(self) -> list[Component]:
        """The components that take part in the loss as it is now; an inactive term reads nothing."""
        optional = (self.token_weights, self.signal)
        always: list[Component] = [self.advantage, self.surrogate, self.aggregation]
        active = (term for term in self.regularizers if term.is_active)
        return [*always, *(part for part in optional if part is not None), *active]

    @property
    def reference_coefficient(self) -> float:
        """The largest coefficient of a pull towards the reference policy; 0 means that no reference is needed."""
        return max(component.reference_coefficient for component in self._components.values())

    @property
    def waits_for(self) -> dict[str, str]:
        """Conditions that inactive terms wait for, in words, by the term's name."""
        return {part.label: part.waits_for for part in self._components.values() if part.waits_for}

    @property
    def is_calibrated(self) -> bool:
        return self.probe is None or self.probe.is_calibrated

    def calibrated(self, hidden_states: Tensor, mask: Tensor) -> Objective:
        """This objective with what the first rollout batch gives it: states (B, T, H) and mask (B, T)."""
        return self if self.probe is None else self.with_probe(self.probe.calibrated(hidden_states, mask))

    def with_probe(self, probe: DispersionProbe) -> Objective:
        """This objective with a calibrated probe: what its terms remember of an earlier dictionary is dropped."""
        return replace(self, probe=probe)._with({name: part.recalibrated() for name, part in self._components.items()})

    def monitored(self, settings: DictionarySettings) -> Objective:
        """This objective, which does not look at hidden states, with a probe whose figures are only logged."""
        return replace(self, probe=DispersionProbe(settings, DispersionBound(quantile=0.9), is_log_only=True))

    def matched(self) -> Objective:
        """This objective with its advantages at the size of GRPO's.

        Raises:
            ConfigError: they are not known before the forward of the policy.
        """
        require_matchable(self.advantage, self.name)
        return replace(self, advantage=MatchedAdvantage(self.advantage))

    @property
    def selector(self) -> TokenSelector | None:
        """The component that chooses among all tokens of an update; None where none does, or its scope is smaller."""
        found = (component.selector for component in self._components.values())
        return next((selector for selector in found if selector is not None), None)

    @torch.no_grad()
    def survey(self, batch: RolloutBatch) -> Tensor:
        """(N, C) what the selector is to know of each of this batch's N tokens, in their order."""
        if self.selector is None:
            raise DataError(f"The objective {self.name!r} does not choose among the tokens of an update.")
        if batch.group_ids is not None:
            groups = grouped(batch)
            columns = self._columns(self.selector, groups.batch)
            return groups.in_rows(columns)[batch.mask]
        return self._columns(self.selector, batch)[batch.mask]

    def _columns(self, selector: TokenSelector, batch: RolloutBatch) -> Tensor:
        if self.signal is not None and self.probe is not None:
            batch = batch.with_extra(SIGNAL, self.signal(self._lift(batch, self.probe), batch).values)
        return selector.columns(batch, self.advantage(batch))

    @torch.no_grad()
    def choose(self, columns: Tensor) -> Tensor:
        """(N,) each token's part (the input `TOKEN_CHOICE`), for the columns (N, C) of all tokens of an update."""
        if self.selector is None:
            raise DataError(f"The objective {self.name!r} does not choose among the tokens of an update.")
        return self.selector.choose(columns)

    @property
    def _components(self) -> dict[str, Component]:
        """The components by their place, as `state` names them; those of `regularizers` by their number."""
        placed = {
            "advantage": self.advantage,
            "token_weights": self.token_weights,
            "surrogate": self.surrogate,
            "aggregation": self.aggregation,
            "signal": self.signal,
        }
        named: dict[str, Component] = {name: part for name, part in placed.items() if part is not None}
        return named | {f"regularizers.{place}": term for place, term in enumerate(self.regularizers)}

    def _with(self, changed: Mapping[str, Any]) -> Objective:
        if all(changed[name] is part for name, part in self._components.items() if name in changed):
            return self
        regularizers = (changed.get(f"regularizers.{place}", term) for place, term in enumerate(self.regularizers))
        parts = {name: component for name, component in changed.items() if "." not in name}
        return replace(self, **parts, regularizers=tuple(regularizers))

    def before_rollout(
        self,
        keys: Tensor,
        rewards: Tensor,
        modes: Tensor | None = None,
        lengths: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> Objective:
        """The objective that knows a rollout batch's rewards (P, G) and prompt keys (P,); see `Component`."""
        given = (keys, rewards, modes, lengths, latent)
        return self._with({name: part.before_rollout(*given) for name, part in self._components.items()})

    def after(self, report: UpdateReport) -> Objective:
        """The objective of the next update; see `relax_rl.objectives.updates`."""
        return self._with({name: part.after(report) for name, part in self._components.items()})

    def after_rollout(self, rows: Tensor) -> Objective:
        """The objective that knows the completions of a rollout batch.

        Args:
            rows: (N, ...) `ObjectiveOutput.to_remember` of all its micro-batches, each once, after its last update.
        """
        return self._with({name: part.after_rollout(rows) for name, part in self._components.items()})

    def state(self) -> dict[str, dict[str, Any]]:
        """All that moves from one update to the next, as JSON has it, by component."""
        states = {name: part.state() for name, part in self._components.items()}
        return {name: state for name, state in states.items() if state}

    def restored(self, state: Mapping[str, Mapping[str, Any]]) -> Objective:
        """This objective with the state of another of the same method.

        Raises:
            KeyError: when the state is another method's.
        """
        parts = self._components
        return self._with({name: parts[name].restored(state[name]) for name in self.state()})

    def on(self, device: torch.device) -> Objective:
        """This objective with its dictionary on a device."""
        if self.probe is None or self.probe.dictionary is None:
            return self
        return replace(self, probe=replace(self.probe, dictionary=self.probe.dictionary.to(device)))

    def __call__(self, batch: RolloutBatch) -> ObjectiveOutput:
        """Loss of one batch of whole groups, or its share of an update's loss (see `UpdateTotals`).

        Raises:
            DataError: groups that are not whole, or an input that is missing.
        """
        if batch.group_ids is None:
            return self._of_groups(batch)
        groups = grouped(batch)
        output = self._of_groups(groups.batch)
        in_rows = {name: groups.in_rows(values) for name, values in output.per_completion.items()}
        return replace(output, per_completion=in_rows)

    def _of_groups(self, batch: RolloutBatch) -> ObjectiveOutput:
        probe = self.probe
        is_missing = probe is not None and probe.is_log_only and not probe.is_calibrated
        began = time.perf_counter()
        lifted = None if probe is None or is_missing else self._lift(batch, probe)
        seconds = time.perf_counter() - began
        reading = self._read(batch, lifted)
        batch = batch if reading is None else batch.with_extra(SIGNAL, reading.values)
        advantages = self.advantage(batch)
        token_advantages, weight_metrics = advantages, {}
        if self.token_weights is not None:
            token_advantages, weight_metrics = self.token_weights(batch, advantages)
        token_loss, metrics = self.surrogate(batch, token_advantages)
        metrics |= weight_metrics
        # After the surrogate and before the mean: the correction weighs a token's loss, clipped or not, as in TRL.
        if batch.sampling_weights is not None:
            token_loss = token_loss * batch.sampling_weights
        loss = self.aggregation(token_loss, batch)
        terms = {self.surrogate.label: loss.detach()}
        measured = Measurements(advantages=advantages)
        per_completion = {"advantage": advantages}
        if is_missing:
            metrics |= dict.fromkeys(_DISPERSION_METRICS, advantages.new_tensor(float("nan")))
            per_completion["dsd"] = torch.full_like(advantages, float("nan"))
        if probe is not None and lifted is not None:
            began = time.perf_counter()
            with torch.set_grad_enabled(self._teaches_through(HIDDEN_STATES, DISPERSION)):
                dispersion, xi = probe.measure(lifted)
            seconds += time.perf_counter() - began
            measured = Measurements(advantages, dispersion, xi)
            metrics |= _dispersion_metrics(dispersion, xi)
            per_completion["dsd"] = dispersion.values.detach().masked_fill(~dispersion.is_defined, float("nan"))
        if self.signal is not None and reading is not None:
            values = per_completion[self.signal.name] = reading.values.detach()
            metrics |= {
                f"latent/{self.signal.name}": values.nanmean(),
                "latent/signal_defined": (~values.isnan()).double().mean(),
            }
        for term in self.regularizers:
            # Not added at all rather than multiplied by 0: 0 times a NaN is NaN, and 0 * x + loss is not loss to the
            # bit.
            if term.is_active:
                share, term_metrics = term(batch, measured)
                loss = loss + share
                terms[term.label] = share.detach()
                metrics |= term_metrics
        figures = {name: float(value.detach()) for name, value in metrics.items()}
        to_remember = self.advantage.to_remember(batch) if reading is None else reading.to_remember
        return ObjectiveOutput(loss, figures, per_completion, to_remember, terms, seconds)

    def _teaches_through(self, *given: Input) -> bool:
        """Whether a term wants the gradient of an input; without, it is for the log alone and has no graph."""
        is_wanted = any(term.is_active and not term.inputs().isdisjoint(given) for term in self.regularizers)
        return is_wanted and torch.is_grad_enabled()

    def _lift(self, batch: RolloutBatch, probe: DispersionProbe) -> LiftedStates:
        with torch.set_grad_enabled(self._teaches_through(HIDDEN_STATES, DISPERSION, SIGNAL)):
            return probe.lift(batch)

    def _read(self, batch: RolloutBatch, lifted: LiftedStates | None) -> SignalReading | None:
        if self.signal is None or lifted is None:
            return None
        with torch.set_grad_enabled(self._teaches_through(SIGNAL)):
            return self.signal(lifted, batch)


_DISPERSION_METRICS = (
    "latent/dsd",
    "latent/dsd_max",
    "latent/dsd_defined",
    "latent/above_xi",
    "latent/spectral_radius",
    "latent/residual",
    "latent/num_clamped",
    "latent/num_nonfinite",
)


def _dispersion_metrics(dispersion: GroupDispersion, xi: float) -> dict[str, Tensor]:
    is_defined = dispersion.is_defined
    values = dispersion.values.detach()[is_defined]
    nothing = values.new_tensor(float("nan"))
    radius = dispersion.spectral_radius[is_defined]
    residual = radius[:0] if dispersion.median_residual is None else dispersion.median_residual[is_defined]
    return {
        "latent/dsd": values.mean() if values.numel() else nothing,
        "latent/dsd_max": values.max() if values.numel() else nothing,
        "latent/dsd_defined": is_defined.float().mean(),
        "latent/above_xi": (values > xi).float().mean() if values.numel() else nothing,
        "latent/spectral_radius": radius.mean() if radius.numel() else nothing,
        "latent/residual": residual.mean() if residual.numel() else nothing,
        "latent/num_clamped": dispersion.num_clamped.float(),
        "latent/num_nonfinite": dispersion.num_nonfinite.float(),
    }
