"""verl's FSDP engine with an objective of this package as the loss of the actor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from verl.utils import tensordict_utils as verl_rows
from verl.utils.device import get_device_name
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import prepare_micro_batches

from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, RunLimits
from relax_rl.objectives.inputs import ENTROPY
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.objective_state import restore_objective, save_objective, updates_before
from relax_rl.training.verl.calibration import fitted
from relax_rl.training.verl.methods import objective_named
from relax_rl.training.verl.policy_loss import RelaxPolicyLossConfig
from relax_rl.training.verl.states import ForwardStates
from relax_rl.training.verl.update import Update

__all__ = ["RelaxEngine"]

Reader = Callable[[Any, Any, Tensor], tuple[Tensor, dict[str, Any]]]


class RelaxEngine(FSDPEngineWithLMHead):
    """Trains the actor by the objective that `RelaxPolicyLossConfig` names; all else is verl's.

    Attributes:
        objective: objective of the run, as it is now; None before the first update.
    """

    objective: Objective | None = None
    _reader: Reader | None = None
    _forecast = EntropyForecast()
    _checkpoint: Path | None = None
    _num_updates = 0

    def _build_module(self) -> Any:
        model: Any = self.model_config
        if model.use_fused_kernels and self.engine_config.strategy == "fsdp2" and not _ties_head(model.hf_config):
            raise ConfigError(
                "verl's fused kernels read the weight of the head past FSDP2, which leaves each process a part of it "
                "unless the embedding shares it; set actor_rollout_ref.model.use_fused_kernels=false."
            )
        module = super()._build_module()
        # Before LoRA and FSDP wrap it: both keep the module, and with it the hook.
        self._states = ForwardStates(module)
        return module

    # What verl calls ----------------------------------------------------------------------------------------------

    def forward_step(self, micro_batch: Any, loss_function: Any, forward_only: bool) -> Any:
        """See `FSDPEngineWithLMHead`; a reader in place gets the outputs and the hidden states."""
        if self._reader is None:
            return super().forward_step(micro_batch, loss_function, forward_only)
        with self._states.armed():
            return super().forward_step(micro_batch, self._read, forward_only)

    def _read(self, model_output: Any, data: Any, dp_group: Any = None) -> tuple[Tensor, dict[str, Any]]:
        assert self._reader is not None
        # verl calls its loss inside the autocast of the forward.
        with torch.autocast(get_device_name(), enabled=False):
            return self._reader(model_output, data, self._states.take())

    def forward_backward_batch(self, data: Any, loss_function: Any, forward_only: bool = False) -> Any:
        """One update of the actor by the objective; passes without gradient are verl's own. Collective.

        Raises:
            ConfigError: the actor's policy loss is none of ours, or reads what this run does not compute.
            DataError: groups that are not whole.
        """
        if forward_only:
            return super().forward_backward_batch(data, loss_function, forward_only)
        objective, config = self._current(loss_function), loss_function.keywords["config"]
        verl_rows.assign_non_tensor(data, sp_size=self.ulysses_sequence_parallel_size)
        # What moves between updates moves by their entropy.
        has_entropy = ENTROPY in objective.inputs or bool(objective.state())
        verl_rows.assign_non_tensor(data, calculate_entropy=has_entropy)
        update = Update(self, objective, data, config.rollout_n, config.policy_loss.max_completion_length)
        outputs = update.run()
        self._num_updates += 1
        report = update.report(self._num_updates, config.policy_loss.updates or self._num_updates)
        self._forecast = self._forecast.after(report)
        self.objective = update.objective.after(report) if report.is_finite else update.objective
        outputs["metrics"] = {f"relax/{name}": [value] for name, value in sorted(report.metrics.items())}
        forecast = self._forecast.metrics if report.is_finite else {}
        outputs["metrics"] |= {f"relax/{name}": [value] for name, value in forecast.items()}
        return outputs

    def begin_rollout(self, data: Any, loss_function: Any, num_updates: int) -> None:
        """Fit the dictionary on a rollout batch where that is due, before its first update. Collective.

        Args:
            num_updates: updates on one rollout batch.

        Raises:
            DataError: groups that are not whole.
            RelaxError: no dictionary can be fitted.
        """
        objective = self._current(loss_function)
        probe, done = objective.probe, self._num_updates
        if probe is None:
            return
        interval = probe.settings.refit_interval
        # Asked once a rollout batch: has a multiple of the interval been passed since the last one?
        is_passed = interval is not None and done > 0 and done % interval < num_updates
        if is_passed or not probe.is_calibrated:
            config = loss_function.keywords["config"]
            # Without dropout. verl keeps the weights where they are if it keeps them there for the updates.
            is_kept = verl_rows.get(data, "disable_auto_offload", default=False)
            with self.eval_mode(disable_auto_offload=is_kept):
                width = config.policy_loss.max_completion_length if objective.reads_layout else None
                self.objective = fitted(self, objective, data, config.rollout_n, width)

    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """verl's shards, and beside them the dictionary, xi and what else moved."""
        super().save_checkpoint(local_path, *args, **kwargs)
        if self.objective is not None and distributed.get_rank() == 0:
            save_objective(self.objective, self._forecast, Path(local_path), updates=self._num_updates)
        distributed.barrier()

    def load_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """verl's shards; what is beside them is read at the next update, when the objective is known."""
        super().load_checkpoint(local_path, *args, **kwargs)
        self._checkpoint = Path(local_path)
        self.objective = None

    # What an update asks of the engine ----------------------------------------------------------------------------

    def passes(self, data: Any, reader: Reader, *, has_gradient: bool) -> Any:
        """verl's loop over the micro-batches of an update with a reader as the loss. Collective."""
        self._reader = reader
        try:
            with torch.set_grad_enabled(has_gradient):
                return super().forward_backward_batch(data, reader, forward_only=not has_gradient)
        finally:
            self._reader = None

    def micro_batches(self, data: Any) -> list[Any]:
        """As verl's loop would cut the rows. Collective.

        Raises:
            ValueError: on every process, where groups that must not be split do not fit.
        """
        return prepare_micro_batches(data=data, dp_group=self.get_data_parallel_group(), same_micro_num_in_dp=True)[0]

    def of_tokens(self, states: Tensor, micro: Any, columns: Callable[[Tensor], Tensor]) -> Tensor:
        """(N, C) some columns of the states of every token of a micro-batch's sequences, end to end.

        Args:
            states: states of one forward, packed (1, L, H), of which each sequence-parallel process has a part, or
                padded.
            columns: from states (n, H) to (n, C), with n tokens of this process: what is gathered is C wide.
        """
        offsets = micro["input_ids"].offsets()
        if verl_rows.get_non_tensor_data(micro, "use_remove_padding", True):
            own = columns(states.squeeze(0))
            padding = len(own) * self.ulysses_sequence_parallel_size - int(offsets[-1])
            return self._gather_and_unpad_packed(own, padding)
        is_token = torch.arange(states.shape[1], device=states.device) < offsets.diff().unsqueeze(-1)
        return columns(states[is_token])

    def _current(self, loss_function: Any) -> Objective:
        if self.objective is None:
            self.objective = self._objective_of(loss_function)
        return self.objective

    def _objective_of(self, loss_function: Any) -> Objective:
        config = loss_function.keywords["config"]
        chosen = config.policy_loss
        if type(chosen) is not RelaxPolicyLossConfig:
            raise ConfigError(
                "relax_rl.training.verl.plugin is loaded, but actor_rollout_ref.actor.policy_loss names no method of "
                "it; set its _target_ to relax_rl.training.verl.policy_loss.RelaxPolicyLossConfig, or leave "
                "external_lib out."
            )
        if "distillation_config" in loss_function.keywords:
            raise ConfigError("Distillation would be ignored: the actor's loss is a method of relax_rl; switch it off.")
        if config.kl_loss_coef and config.use_kl_loss:
            raise ConfigError(
                "actor.kl_loss_coef would be ignored: the objective has a KL of its own (policy_loss.options.beta); "
                "set actor.kl_loss_coef=0."
            )
        if config.entropy_coeff:
            raise ConfigError(
                "actor.entropy_coeff would be ignored: choose a method with an entropy bonus; set it to 0."
            )
        limits = RunLimits(chosen.max_completion_length, config.rollout_n, chosen.updates)
        objective = objective_named(chosen.objective, _plain(chosen.options), limits)
        if self._checkpoint is not None:
            objective, self._forecast, _ = restore_objective(objective, self._checkpoint)
            self._num_updates = updates_before(self._checkpoint)
            objective = objective.on(torch.device(get_device_name()))
        if distributed.get_rank() == 0:
            print(f"relax_rl: the actor is trained by {chosen.objective} with {_plain(chosen.options)}", flush=True)
        return objective


def _ties_head(config: Any) -> bool:
    return bool(config.get_text_config().tie_word_embeddings)


def _plain(options: Any) -> dict[str, Any]:
    """Options of a configuration as plain values."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(options), resolve=True)  # type: ignore[return-value]
