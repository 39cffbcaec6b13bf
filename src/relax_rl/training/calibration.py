"""The dictionary that is fitted on a run's rollouts: when, and what becomes of a run where that is impossible."""

from __future__ import annotations

import torch
from torch import Tensor

from relax_rl.errors import DataError, RelaxError
from relax_rl.objectives import Objective
from relax_rl.objectives.inputs import HIDDEN_STATES
from relax_rl.objectives.probe import DispersionProbe
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer
from relax_rl.training.notices import Notices

__all__ = ["Calibration"]


class Calibration:
    """Fits the dictionary of a trainer's objective, and xi where it is a quantile.

    A method that reads the dispersion cannot start without. One for which it is only logged goes on, and so does a run
    whose dictionary is to be fitted anew.

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
        states, mask = self._gathered(batches, masks)
        try:
            # Every rank fits the same dictionary: the same rows in the same order, the same seed.
            fitted = objective.calibrated(states, mask)
        except (RelaxError, torch.linalg.LinAlgError) as error:
            if not (probe.is_log_only or probe.is_calibrated):
                raise DataError(self._cause(objective, mask, update, str(error))) from error
            return self._without(str(error).rstrip("."), update)
        self._fitted_at, self._is_missing = update, False
        return fitted

    def _has_pairs(self, masks: list[Tensor], probe: DispersionProbe) -> bool:
        # Found before the forward: a policy of short answers would pay for one at every rollout.
        longest = torch.stack([mask.sum(-1).max() for mask in masks]).max()
        return int(self._trainer.accelerator.gather(longest.unsqueeze(0)).max()) - 1 > probe.settings.num_observables

    def _gathered(self, batches: list[Rows], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        """States (B, T, H) and mask (B, T) of the rollout batch of all ranks."""
        trainer, group = self._trainer, self._trainer.args.num_generations
        states = []
        for batch, mask in zip(batches, masks, strict=True):
            found = self._states.tensor(MicroBatch(batch, trainer.forward_only(batch), mask, group))
            if found is None:
                raise DataError(f"The trainer has no {HIDDEN_STATES.name}, which a dictionary is fitted on.")
            states.append(found.float())
        gathered, mask = (
            trainer.accelerator.gather(trainer.accelerator.pad_across_processes(torch.cat(parts), dim=1)).cpu()
            for parts in (states, [mask.long() for mask in masks])
        )
        return gathered, mask.bool()

    def _without(self, reason: str, update: int) -> Objective:
        objective = self._trainer.objective
        if objective.is_calibrated:
            self._say(f"The dictionary could not be fitted anew before update {update + 1}, so it stays: {reason}.")
        elif not self._is_missing:
            self._is_missing = True
            self._say(
                f"The dispersion, which {objective.name} only logs, cannot be measured since update {update + 1}: "
                f"{reason}. The run goes on without it, and tries again with each rollout batch."
            )
        return objective

    def _cause(self, objective: Objective, mask: Tensor, update: int, error: str) -> str:
        lengths, args = mask.sum(-1), self._trainer.args
        left_out = int((lengths == 0).sum())
        begin = f"{objective.name} cannot fit its dictionary on the rollout batch of update {update + 1}: "
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
