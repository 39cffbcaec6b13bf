"""TRL's trainer under a numerical guard: the optimiser never steps on numbers that are not finite.

The healthy path costs one norm of the parameters and one wait for the device an update: the norm of the gradients is
the one that they are clipped by. Nothing is computed differently.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from trl.trainer.grpo_trainer import GRPOTrainer

from relax_rl.config import GuardConfig
from relax_rl.errors import NumericalError
from relax_rl.latent.nonfinite import first_nonfinite_layer
from relax_rl.objectives import RolloutBatch
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.runs.checkpoints import checkpoints_in
from relax_rl.training.guard import LARGEST_REWARD, NumericalGuard, in_words, is_sound, nonfinite_in, nonfinite_names
from relax_rl.training.notices import Notices
from relax_rl.training.trl.callbacks import LearningNotices
from relax_rl.training.trl.strategy import held_parts, load_whole_weights
from relax_rl.training.trl.trackers import make_harmless
from relax_rl.training.watch import LearningWatch

__all__ = ["GUARD_FILE", "GuardedTrainer"]

GUARD_FILE = "guard.json"
"""In a checkpoint, the guard's counts; left out where nothing was ever skipped."""

Named = list[tuple[str, nn.Parameter]]


class GuardedTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` that skips updates whose numbers are not finite, and stops where there are too many.

    A skipped update counts as an update: it has its row in the log, the learning rate follows its schedule, and the
    weights and the optimiser's state stay as they were.

    Args:
        guard: limits at which to stop; the defaults when None.
        notices: receiver of the notices to the user; Python warnings when None.
        kwargs: those of `trl.GRPOTrainer`.

    `train` raises NumericalError where the run stops, where the weights are not finite to begin with, and where the
    policy gives no distribution to sample from. `save_model` raises it and writes nothing where the weights are not
    finite.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    accelerator: Any

    def __init__(self, *, guard: GuardConfig | None = None, notices: Notices | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notices = Notices() if notices is None else notices
        limits = GuardConfig() if guard is None else guard
        self._guard = NumericalGuard(limits, self.notices)
        self._watch = LearningWatch(limits.warn_after, self.notices)
        self.add_callback(LearningNotices(self._watch))
        make_harmless(self.callback_handler.callbacks, self.args.report_to, self.notices)
        # transformers would log the mean of the losses before in place of one that is not finite.
        self.args.logging_nan_inf_filter = False
        self._findings: list[str] = []
        self._is_skipped = False
        self._loss_is_lost = False
        self._last_judged: int | None = None

    def _learners(self) -> Named:
        """Parameters beside the policy's that the optimiser steps."""
        return []

    def _trained(self) -> Named:
        return [pair for pair in self.model.named_parameters() if pair[1].requires_grad] + self._learners()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse_nonfinite("before the first update; load other weights")
        output = super().train(*args, **kwargs)
        self._guard.conclude(self.state.global_step)
        return output

    # Rewards ------------------------------------------------------------------------------------------------------

    def _finite_rewards(self, scores: Tensor) -> Tensor:
        """The scores (B of all ranks, functions) with NaN, not scored, for those that no advantage can be made of."""
        is_endless = scores.abs() > LARGEST_REWARD
        if not bool(is_endless.any()):
            return scores
        if self.model.training:
            self._metrics["train"]["guard/infinite_rewards"].append(float(is_endless.sum()))
        for name, column in zip(self.reward_func_names, is_endless.T, strict=True):
            if rows := column.nonzero().flatten().tolist():
                self.notices(
                    f"The reward {name!r} is infinite or beyond {LARGEST_REWARD:g} since update "
                    f"{self.state.global_step + 1} (the first time for completion {rows[0] + 1} of the rollout batch); "
                    "such a completion counts as not scored. The metric guard/infinite_rewards counts them."
                )
        return scores.masked_fill(is_endless, float("nan"))

    # Rollouts -----------------------------------------------------------------------------------------------------

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        except RuntimeError as error:
            if "probability tensor contains" not in str(error):
                raise
            layer = first_nonfinite_layer(self.accelerator.unwrap_model(self.model), prompt_ids)
            where = f"the output of {layer} is not finite" if layer else "its logits are not finite"
            raise NumericalError(
                f"The policy gives no distribution to sample from in the rollouts of update "
                f"{self.state.global_step + 1}: {where}, and the weights are; {self._kept()}."
            ) from error

    # The update ---------------------------------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        # The running sum of losses is emptied by subtraction, which a NaN would survive; `log` tells of it instead.
        return torch.where(loss.isfinite(), loss, torch.zeros_like(loss))

    def _inspect(self, batch: RolloutBatch, output: ObjectiveOutput) -> None:
        """Note what is not finite in a micro-batch of the update."""
        if bool(is_sound(batch, output)):
            return
        place = f"micro-batch {self._step % self.args.gradient_accumulation_steps + 1}"
        if self.accelerator.num_processes > 1:
            place += f" of process {self.accelerator.process_index}"
        self._findings += nonfinite_in(batch, output, place)

    def _clip_grad_norm(self, model: Any) -> Any:
        if not self._sees_gradients:
            return super()._clip_grad_norm(model)
        # The two halves of TRL's clipping, judged in between: it would multiply every gradient by the norm's NaN.
        norm = self._policy_norm(model)
        if not self._may_step(norm):
            return torch.tensor(float("nan"))
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), self.args.max_grad_norm, norm)
        return norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # None without clipping.
        if grad_norm is None and self._sees_gradients:
            norm = self._policy_norm(model)
            return norm if self._may_step(norm) else float("nan")
        if self._is_skipped:
            return grad_norm
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not self._sees_gradients and self.accelerator.scaler is None:
            self._may_step(torch.as_tensor(norm))
        return norm

    @staticmethod
    def _policy_norm(model: Any) -> Tensor:
        """() of the gradients of the policy: what the learners beside it learn is clipped apart."""
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    @property
    def _sees_gradients(self) -> bool:
        """Whether the gradients are whole tensors of their true size: neither sharded nor scaled (a scaler skips)."""
        # Transformers before 5.19 clip the gradients of several meshes like any others, and cannot tell of them.
        tells = getattr(self, "_has_mixed_mesh_grads", None)
        is_mixed = tells is not None and tells(self.model)
        is_whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled or is_mixed)
        # XLA averages gradients over processes only as they are clipped.
        is_whole = is_whole and self.accelerator.distributed_type != DistributedType.XLA
        return is_whole and self.accelerator.scaler is None

    def _may_step(self, policy_norm: Tensor) -> bool:
        """Whether the optimiser may step on the gradients; if not they are dropped. All ranks decide alike.

        Args:
            policy_norm: () of the policy's gradients.
        """
        beside = [parameter.grad for _, parameter in self._learners() if parameter.grad is not None]
        norm = float(policy_norm) + (float(torch.nn.utils.get_total_norm(beside)) if beside else 0.0)
        if not self._on_any_rank(bool(self._findings) or not math.isfinite(norm)):
            self._guard.stepped(norm)
            return True
        named = [(name, parameter.grad) for name, parameter in self._trained() if parameter.grad is not None]
        in_forward = gather_object(self._findings)
        names = nonfinite_names(named)
        if names:
            found = [in_words("the gradient", names)]
        else:
            found = [] if math.isfinite(norm) else ["the norm of the gradient"]
        self._findings = []
        self._is_skipped, self._loss_is_lost = True, bool(in_forward)
        self._metrics["train"]["guard/skipped"].append(1.0)
        self._drop_gradients()
        self._guard.skipped(self.state.global_step + 1, [*in_forward, *gather_object(found)])
        return False

    def _drop_gradients(self) -> None:
        # Without gradients an optimiser leaves a parameter alone, its own state of it too; zeros would move both.
        for _, parameter in self._trained():
            parameter.grad = None

    def _on_any_rank(self, is_so: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return is_so
        count = self.accelerator.reduce(torch.tensor(float(is_so), device=self.accelerator.device), reduction="sum")
        return float(count) > 0

    # After the update ---------------------------------------------------------------------------------------------

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        update = self.state.global_step
        # Called once more at the end of a pass over the data.
        if update == self._last_judged:
            super()._maybe_log_save_evaluate(*args, **kwargs)
            return
        self._last_judged = update
        spoilt = self._nonfinite_parameters()
        reason = self._guard.reason_to_stop(update)
        if spoilt or reason is not None:
            self.control.should_log, self.control.should_evaluate = True, False
            # The weights are those of the last healthy update. Earlier checkpoints stay, whatever the limit: the run
            # may have gone astray long before.
            self.control.should_save = not spoilt and self.args.save_strategy != "no"
            self.args.save_total_limit = None
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._is_skipped = False
        if spoilt:
            raise NumericalError(
                f"The step of update {update} made {in_words('the weights', spoilt)} not finite; they are lost, and "
                f"{self._kept()}. Lower the learning rate."
            )
        if reason is not None:
            raise NumericalError(f"The run stops after update {update}: {reason}; {self._kept()}.")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._loss_is_lost and "loss" in logs:
            logs["loss"] = float("nan")
            self._loss_is_lost = False
        super().log(logs, start_time)

    def _kept(self) -> str:
        """Checkpoint to resume from, in words."""
        last = next(checkpoints_in(Path(str(self.args.output_dir))), None)
        return "no checkpoint was saved before" if last is None else f"the last checkpoint is {last.path}"

    def _nonfinite_parameters(self) -> list[str]:
        named = self._trained()
        # A norm may overflow where no number does.
        parts = held_parts(parameter for _, parameter in named)
        norm = float(torch.nn.utils.get_total_norm(parts))
        names = [] if math.isfinite(norm) else nonfinite_names(zip((name for name, _ in named), parts, strict=True))
        return gather_object(names) if self._on_any_rank(bool(names)) else []

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _refuse_nonfinite(self, when: str) -> None:
        names = self._nonfinite_parameters()
        if names:
            raise NumericalError(f"{in_words('The weights', list(dict.fromkeys(names)))} are not finite {when}.")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self._refuse_nonfinite("and are not saved")
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        state = self._guard.state()
        if self.args.should_save and state["skipped"]:
            (Path(output_dir or str(self.args.output_dir)) / GUARD_FILE).write_text(json.dumps(state) + "\n")

    def load_checkpoint(self, folder: Path) -> None:
        """Take up the weights and the rest of the run's state, as `train` does when it resumes, without training on."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            # Prepared by the updates alone, and there are none to come.
            load_whole_weights(self.model, folder, self.accelerator)
            self.model.to(self.accelerator.device)
            self._load_own_state(folder)
        else:
            self._load_from_checkpoint(str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_own_state(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        # DeepSpeed has loaded the weights by itself, without the method above.
        if checkpoint is not None and self.is_deepspeed_enabled:
            self._load_own_state(Path(checkpoint))

    def _load_own_state(self, folder: Path) -> None:
        """Take up what a checkpoint holds beside weights and optimiser, and refuse weights that are not finite."""
        self._refuse_nonfinite(f"in the checkpoint {folder}; resume from an older one")
        if (folder / GUARD_FILE).is_file():
            self._guard.restore(json.loads((folder / GUARD_FILE).read_text()))
