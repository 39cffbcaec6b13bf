"""GRPO training by TRL, with our objective as the loss.

Nothing is copied out of TRL. Its `compute_loss` runs the forward while hooks listen; its loss is dropped, and the
objective's is returned. Groups are a tensor shape, (P, G, ...): every micro-batch holds whole groups, in order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.capture import ForwardCapture, ForwardRecord
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.token_weights import PlanningCredit
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.inputs.partition import PartitionHead
from relax_rl.training.inputs.token_choice import choose_over_update
from relax_rl.training.inputs.vocabulary import VOCABULARY_NEEDS, vocabulary_statistics
from relax_rl.training.objective_state import restore_objective, save_objective
from relax_rl.training.trl.rollouts import RolloutTrainer
from relax_rl.training.trl.update_sums import UpdateSums

__all__ = ["RelaxTrainer"]


class RelaxTrainer(RolloutTrainer):
    """`trl.GRPOTrainer` whose loss is an `Objective`.

    Args:
        objective: the method; calibrated on the first rollout batch where it looks at hidden states.
        card: the model card, kept with the checkpoints; None to keep none.
        kwargs: those of `RolloutTrainer`, and of `trl.GRPOTrainer`.

    Raises:
        ConfigError: when a micro-batch would not hold whole groups, or an update would straddle rollouts.
    """

    def __init__(self, *, objective: Objective, card: str | None = None, **kwargs: Any) -> None:
        credit = objective.token_weights
        super().__init__(grams=credit.grams if isinstance(credit, PlanningCredit) else (), **kwargs)
        self._card = card
        self.objective = objective
        self._capture = ForwardCapture(self.accelerator.unwrap_model(self.model))
        self._calibrated_at: int | None = None
        self._update = UpdateSums()
        self._to_remember: deque[Tensor] = deque(maxlen=self.args.steps_per_generation)
        self._forecast = EntropyForecast()
        self._partition: PartitionHead | None = None
        if "log_partition" in objective.needs:
            width = self.accelerator.unwrap_model(self.model).get_output_embeddings().weight.shape[1]
            self._partition = PartitionHead(width, seed=self.args.seed).to(self.accelerator.device)

    # Before an update ---------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        previous = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            return inputs
        if self._buffered_inputs is not previous:
            self._buffered_inputs = self._whole_groups(self._buffered_inputs)
            if "old_entropy" in self.objective.needs and "old_per_token_logps" in self._buffered_inputs[0]:
                self._measure_old_entropy(self._buffered_inputs)
            if self.objective.remembers_prompts:
                self._remember(self._buffered_inputs)
            if not self.objective.is_calibrated or self._refit_is_due():
                self._calibrate(self._buffered_inputs)
        place, window = self._step % self.args.steps_per_generation, self.args.gradient_accumulation_steps
        if place % window == 0:
            self._choose_tokens(self._buffered_inputs[place : place + window])
        return self._buffered_inputs[place]

    def _measure_old_entropy(self, batches: list[dict[str, Any]]) -> None:
        """The entropy under the policy that sampled, before the first update of a rollout batch that serves several."""
        for batch in batches:
            with torch.no_grad():
                forward, _ = self._forward(self.model_wrapped, batch)
            if forward.entropy is not None:
                batch["old_entropy"] = forward.entropy[:, -batch["completion_ids"].shape[1] :]

    def _remember(self, batches: list[dict[str, Any]]) -> None:
        """Tell the objective the rewards of this rollout batch, of all ranks."""
        keys = torch.cat([batch["prompt_key"] for batch in batches])[:: self.num_generations]
        rewards = torch.cat([batch["rewards"] for batch in batches]).unflatten(0, (-1, self.num_generations))
        self._set_objective(self.objective.remember(self.accelerator.gather(keys), self.accelerator.gather(rewards)))

    def _choose_tokens(self, update: list[dict[str, Any]]) -> None:
        """Have the objective choose among all tokens of an update, where it does, before its first micro-batch.

        One more forward of the update without gradient. A single micro-batch on a single process is the whole update,
        and chooses for itself.
        """
        selector = self.objective.selector
        if selector is None or len(update) * self.accelerator.num_processes == 1:
            return
        masks = [self._completion_mask(batch) for batch in update]
        if selector.is_idle_on_policy and "old_per_token_logps" not in update[0]:
            choices = [torch.zeros_like(mask, dtype=torch.float32) for mask in masks]
        else:
            columns = []
            for batch in update:
                with torch.no_grad():
                    forward, _ = self._forward(self.model_wrapped, batch)
                columns.append(self.objective.survey(self._rollout_batch(batch, forward)))
            choices = choose_over_update(self.accelerator, self.objective, columns, masks)
        for batch, choice in zip(update, choices, strict=True):
            batch["token_choice"] = choice

    # The loss -----------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The objective's loss on one micro-batch: its share of the update's loss."""
        if return_outputs:
            raise ConfigError(
                "The loss of a rollout batch has no outputs to return; call it with return_outputs=False."
            )
        mode = "train" if self.model.training else "eval"
        forward, logged = self._forward(model, inputs)
        batch = self._rollout_batch(inputs, forward)
        output = self.objective(batch)
        metrics = self._rank_means(output)
        # TRL's own figures stay, except where the objective computes the same one.
        for name, value in (logged | metrics).items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            self._update.add(batch, output.per_completion["advantage"], metrics)
            if output.to_remember is not None:
                self._to_remember.append(output.to_remember)
            window = self.args.gradient_accumulation_steps
            if self._step % window == window - 1:
                self._end_of_update()
        if self._recorder is not None and mode == "train":
            self._recorder.add(output.per_completion)
            if self._step % self.args.steps_per_generation == self.args.steps_per_generation - 1:
                self._recorder.finish(self.state.global_step + 1)
        # Shares are of the whole update on all ranks and simply add up, but DDP averages over ranks.
        return output.loss * self.accelerator.num_processes

    def _end_of_update(self) -> None:
        """The update's gradient is there: what its figures say goes into the log and into the next objective."""
        report = self._update.report(self.accelerator, self.state.global_step + 1, self.state.max_steps)
        self._update = UpdateSums()
        self._forecast = self._forecast.after(report)
        for name, value in self._forecast.metrics.items():
            self._metrics["train"][name].append(value)
        self._set_objective(self.objective.after(report))
        uses = self.args.steps_per_generation * self.num_iterations
        if self.objective.remembers_completions and self._step % uses == uses - 1:
            # The last pass over the rollout batch has each of its micro-batches once.
            rows = gather_object([row for part in self._to_remember for row in part.cpu()])
            self._to_remember.clear()
            if rows:
                self._set_objective(self.objective.remember_completions(torch.stack(rows)))

    def _forward(self, model: Any, inputs: Any) -> tuple[ForwardRecord, dict[str, float]]:
        """TRL's own forward of a micro-batch, and the figures it logs with it; its loss is dropped."""
        mode = "train" if self.model.training else "eval"
        kept, self._metrics[mode] = self._metrics[mode], defaultdict(list)
        try:
            with self._capture.armed():
                super().compute_loss(model, inputs)
        finally:
            logged, self._metrics[mode] = self._metrics[mode], kept
        return self._capture.take(), {name: values[-1] for name, values in logged.items()}

    def _rollout_batch(self, inputs: dict[str, Any], forward: ForwardRecord) -> RolloutBatch:
        mask = self._completion_mask(inputs)
        num_rows, num_tokens = mask.shape
        group = self.num_generations if self.model.training else self.num_generations_eval
        if forward.log_probs is None or forward.entropy is None:
            raise ModelError("TRL's fused head gave no log-probabilities or entropy; this version of TRL does not fit.")
        log_probs = forward.log_probs[:, -num_tokens:]
        old = inputs.get("old_per_token_logps")
        window = self.current_gradient_accumulation_steps if self.model.training else 1
        num_completions = num_rows * window * self.accelerator.num_processes

        needs = self.objective.needs
        entropy = forward.entropy[:, -num_tokens:]
        found = self._vocabulary(inputs, forward) if needs & VOCABULARY_NEEDS else {}

        def grouped(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else rows.unflatten(0, (num_rows // group, group))

        return RolloutBatch(
            log_probs=log_probs.unflatten(0, (-1, group)),
            old_log_probs=(log_probs.detach() if old is None else old).unflatten(0, (-1, group)),
            mask=mask.unflatten(0, (-1, group)),
            rewards=inputs["rewards"].unflatten(0, (-1, group)),
            ref_log_probs=grouped(inputs.get("ref_per_token_logps")),
            entropy=grouped(entropy),
            old_entropy=grouped(inputs.get("old_entropy", entropy.detach() if "old_entropy" in needs else None)),
            entropy_flow=grouped(found.get("entropy_flow")),
            score_features=grouped(found.get("score_features")),
            planning_mask=grouped(inputs.get("planning_mask")),
            log_partition=self._log_partition(inputs, forward, group),
            hidden_states=grouped(self._states(forward, num_tokens)),
            sampling_weights=grouped(inputs.get("importance_sampling_ratio")),
            prompt_keys=inputs["prompt_key"][::group],
            token_choice=grouped(inputs.get("token_choice")),
            sampled_lengths=grouped(inputs.get("sampled_length")),
            totals=UpdateTotals(
                num_prompts=num_completions / group,
                num_completions=num_completions,
                num_tokens=inputs.get("num_update_tokens", float(mask.sum())),
            ),
        )

    def _states(self, forward: ForwardRecord, num_tokens: int) -> Tensor | None:
        """(B, T, H) of the (B, L, H) states: those of the completion's tokens, or those that predict them."""
        probe = self.objective.probe
        if probe is None and "hidden_states" not in self.objective.needs:
            return None
        end = forward.hidden_states.shape[1] - (probe is not None and probe.state_alignment == "predicting")
        return forward.hidden_states[:, end - num_tokens : end]

    def _vocabulary(self, inputs: dict[str, Any], forward: ForwardRecord) -> dict[str, Tensor]:
        """What takes the whole next-token distributions; see `vocabulary_statistics`."""
        mask, end = self._completion_mask(inputs), forward.hidden_states.shape[1] - 1
        if forward.log_probs is None:
            raise ModelError("TRL's fused head gave no log-probabilities; this version of TRL does not fit.")
        return vocabulary_statistics(
            self.accelerator.unwrap_model(self.model),
            forward.hidden_states[:, end - mask.shape[1] : end].detach(),
            inputs["completion_ids"],
            mask,
            forward.log_probs[:, -mask.shape[1] :].detach(),
            self.temperature,
            is_half_precision=self.args.bf16 or self.args.fp16,
        )

    def _log_partition(self, inputs: dict[str, Any], forward: ForwardRecord, group: int) -> Tensor | None:
        """(P,) log Z of each prompt, from the first row of its group, where the objective learns it."""
        if self._partition is None:
            return None
        mask = inputs["prompt_mask"][::group].bool()
        self._partition.train(self.model.training)
        return self._partition(forward.hidden_states[::group, : mask.shape[1]], mask)

    def _rank_means(self, output: ObjectiveOutput) -> dict[str, float]:
        """The objective's metrics, averaged over the ranks that have them."""
        names = sorted(output.metrics)
        local = torch.tensor([[output.metrics[name] for name in names]], device=self.accelerator.device)
        return dict(zip(names, self.accelerator.gather(local).nanmean(0).tolist(), strict=True))

    # The dictionary -----------------------------------------------------------------------------------------------

    def _refit_is_due(self) -> bool:
        probe, step = self.objective.probe, self.state.global_step
        if probe is None or probe.settings.refit_interval is None or step == 0:
            return False
        # Asked once a rollout batch: has a multiple of the interval been passed since the last one?
        uses = self.args.steps_per_generation * self.num_iterations
        updates_per_rollout = uses // self.args.gradient_accumulation_steps
        return step % probe.settings.refit_interval < updates_per_rollout and self._calibrated_at != step

    def _calibrate(self, batches: list[dict[str, Any]]) -> None:
        """Fit the dictionary, and xi where it is a quantile, on the completions of this rollout batch, of all ranks.

        One more forward without gradient, once: the states of all micro-batches are needed before the first loss.
        """
        states, masks = [], []
        for batch in batches:
            with torch.no_grad():
                forward, _ = self._forward(self.model_wrapped, batch)
            mask = self._completion_mask(batch)
            local = self._states(forward, mask.shape[1])
            if local is None:
                return
            states.append(local.float())
            masks.append(mask.long())
        gathered, mask = (
            self.accelerator.gather(self.accelerator.pad_across_processes(torch.cat(parts), dim=1)).cpu()
            for parts in (states, masks)
        )
        # Every rank fits the same dictionary: the same rows in the same order, the same seed.
        self._set_objective(self.objective.calibrated(gathered, mask.bool()))
        self._calibrated_at = self.state.global_step

    def _set_objective(self, objective: Objective) -> None:
        self.objective = objective.on(self.accelerator.device)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The run's own card in place of TRL's, which knows neither the objective nor the task."""
        if self._card is not None and self.accelerator.is_main_process:
            (Path(str(self.args.output_dir)) / "README.md").write_text(self._card, encoding="utf-8")

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The optimiser of the policy, and of the head for log Z where there is one."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new and self._partition is not None:
            self._partition.join(optimizer, self.accelerator, self.args.max_grad_norm or 0.0)
        return optimizer

    def leave_group(self) -> None:
        """Part from the other processes of a run; it cannot train afterwards. Nothing to do for a single process.

        For the end of a program, which must not be left to Python: threads of gloo that give back a tensor then wait
        for an interpreter that is gone, and take the process down (SIGABRT) or hang it. The wrapper goes first, since
        what it keeps of the group would be joined with the interpreter locked.
        """
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        self.accelerator.end_training()

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            draws = 0 if self._sampling is None else self._sampling.draws
            save_objective(self.objective, self._forecast, folder, draws)
            if self._partition is not None:
                self._partition.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        objective, self._forecast, draws = restore_objective(self.objective, Path(resume_from_checkpoint))
        if self._sampling is not None:
            self._sampling.draws = draws
        self._set_objective(objective)
        if self._partition is not None:
            self._partition.load(Path(resume_from_checkpoint))
