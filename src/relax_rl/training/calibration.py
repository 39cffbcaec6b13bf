"""The dictionary that is fitted on a run's rollouts: when, and what becomes of a run where that is impossible.

A sample of the completions is enough, and each process keeps the states of its own. What the fit needs of them goes to
the first process, which fits on its device and gives the dictionary to all; then each measures its own for xi. So the
memory of a process does not grow with the number of processes, and neither does what is sent.
"""

from __future__ import annotations

import torch
from accelerate.utils import gather_object
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import Objective
from relax_rl.objectives.probe import DispersionProbe
from relax_rl.training.inputs.provider import Provider, Rows, Trainer
from relax_rl.training.notices import Notices
from relax_rl.training.sampled_states import SampledStates, sampled_states
from relax_rl.training.together import IMPOSSIBLE, given_to_first, made_once, raised_by_all

__all__ = ["Calibration"]

_TOGETHER = 64
"""Completions measured at once for xi: bounds the memory of their states in float32."""


class Calibration:
    """Fits the dictionary of a trainer's objective, and xi where it is a quantile.

    A method that reads the dispersion cannot start without. One for which it is only logged goes on, and so does a run
    whose dictionary is to be fitted again.

    Args:
        trainer: its objective is calibrated.
        states: provides `HIDDEN_STATES`.
        say: receives a sentence where the run goes on without.
    """

    def __init__(self, trainer: Trainer, states: Provider, say: Notices) -> None:
        self._trainer = trainer
        self._states = states
        self._say = say
        self._fitted_at: int | None = None
        self._is_missing = False

    def is_due(self, update: int) -> bool:
        """Whether the dictionary is to be fitted before an update that begins a rollout batch, the first being 0."""
        probe, args = self._trainer.objective.probe, self._trainer.args
        if probe is None:
            return False
        if not probe.is_calibrated:
            return True
        interval = probe.settings.refit_interval
        if interval is None or update == 0:
            return False
        # Asked once a rollout batch: has a multiple of the interval been passed since the last one?
        updates_per_rollout = args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps
        return update % interval < updates_per_rollout and self._fitted_at != update

    def fitted(self, batches: list[Rows], update: int) -> Objective:
        """The objective with what this rollout batch, of all ranks, gives it. Collective.

        One more forward without gradient: the states of all micro-batches are needed before the first loss.

        Raises:
            DataError: the method reads the dispersion, and no dictionary can be fitted.
        """
        objective, probe = self._trainer.objective, self._trainer.objective.probe
        if probe is None:
            return objective
        masks = [self._trainer.completion_mask(batch) for batch in batches]
        if probe.is_log_only and not self._has_pairs(masks, probe):
            return self._without("no completion has more snapshot pairs than there are observables", update)
        sample = sampled_states(self._trainer, self._states, batches, masks)
        try:
            dictionary = self._fit(sample, probe)
            found = probe.with_dictionary(dictionary, self._dispersions(sample, probe, dictionary))
        except IMPOSSIBLE as error:
            if not (probe.is_log_only or probe.is_calibrated):
                raise DataError(self._cause(masks, update, str(error))) from error
            return self._without(str(error).rstrip("."), update)
        self._fitted_at, self._is_missing = update, False
        return objective.with_probe(found)

    def _fit(self, sample: SampledStates, probe: DispersionProbe) -> KoopmanDictionary:
        """The dictionary, fitted by the first process. Collective; raises on every process where it raises on one."""
        given = given_to_first(self._fit_rows(sample, probe)) or []
        device = self._trainer.accelerator.device
        # In the order of the rollout batch, so that any number of processes fits the same dictionary.
        rows = sorted((row for part in given for row in part), key=lambda row: row[0])
        return made_once(lambda: probe.settings.fit([states.to(device) for _, states in rows])).to(device)

    @staticmethod
    def _fit_rows(sample: SampledStates, probe: DispersionProbe) -> list[tuple[int, Tensor]]:
        """Place and states (T_i, H) in float32 of this process's completions that the dictionary is fitted on."""
        return [
            # A copy: a view would be sent with all that it is a view of.
            (place, states.float().clone())
            for row, place in enumerate(sample.places)
            if place < probe.settings.max_trajectories
            for states in probe.settings.chosen(probe.trajectories(sample.states[row, None], sample.mask[row, None]))
        ]

    def _dispersions(self, sample: SampledStates, probe: DispersionProbe, dictionary: KoopmanDictionary) -> Tensor:
        """(N) of the sample of all processes, in float64, where it is defined. Collective."""
        device = self._trainer.accelerator.device
        found: list[float] = []
        failures: list[Exception] = []
        try:
            for states, mask in zip(sample.states.split(_TOGETHER), sample.mask.split(_TOGETHER), strict=True):
                if len(states):
                    found += probe.dispersions(states.to(device).float(), mask.to(device), dictionary).tolist()
        except IMPOSSIBLE as error:
            failures.append(error)
        raised_by_all(failures)
        return torch.tensor(gather_object(found), dtype=torch.float64)

    def _has_pairs(self, masks: list[Tensor], probe: DispersionProbe) -> bool:
        # Found before the forward: a policy of short answers would pay for one at every rollout.
        longest = torch.stack([mask.sum(-1).max() for mask in masks]).max()
        return int(self._trainer.accelerator.gather(longest.unsqueeze(0)).max()) - 1 > probe.settings.num_observables

    def _without(self, reason: str, update: int) -> Objective:
        objective = self._trainer.objective
        if objective.is_calibrated:
            self._say(f"The dictionary could not be fitted again before update {update + 1}, so it stays: {reason}.")
        elif not self._is_missing:
            self._is_missing = True
            self._say(
                f"The dispersion, which {objective.name} only logs, cannot be measured since update {update + 1}: "
                f"{reason}. The run goes on without it, and tries again with each rollout batch."
            )
        return objective

    def _cause(self, masks: list[Tensor], update: int, error: str) -> str:
        args = self._trainer.args
        counts = torch.tensor([[int(length) for mask in masks for length in mask.sum(-1)]], device=masks[0].device)
        lengths = self._trainer.accelerator.gather(counts).flatten()
        left_out = int((lengths == 0).sum())
        begin = (
            f"{self._trainer.objective.name} cannot fit its dictionary on the rollout batch of update {update + 1}: "
        )
        if args.mask_truncated_completions and left_out:
            return (
                f"{begin}{left_out} of {len(lengths)} completions were truncated at max_completion_length = "
                f"{args.max_completion_length} and left out, as mask_truncated_completions asks; raise "
                f"max_completion_length or set mask_truncated_completions to false. ({error})"
            )
        return (
            f"{begin}its {len(lengths)} completions have at most {int(lengths.max())} tokens; lower "
            f"dictionary.num_observables, or start from a policy that answers at more length. ({error})"
        )
