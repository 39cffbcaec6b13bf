"""GRPO training by TRL, with our objective as the loss.

Nothing is copied out of TRL. Its `compute_loss` runs the forward while hooks listen; its loss is dropped, and the
objective's is returned. Groups are a tensor shape, (P, G, ...): every micro-batch holds whole groups, in order.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import pad, split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.capture import ForwardCapture, ForwardRecord
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.token_weights import PlanningCredit
from relax_rl.training.branching import Branching
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.objective_state import restore_objective, save_objective
from relax_rl.training.partition import PartitionHead
from relax_rl.training.planning import planning_mask
from relax_rl.training.prompts import prompt_key
from relax_rl.training.refill import DynamicSampling, Rollout
from relax_rl.training.rollouts import RolloutRecorder
from relax_rl.training.token_survey import choose_over_update
from relax_rl.training.update_sums import UpdateSums
from relax_rl.training.vocabulary import VOCABULARY_NEEDS, vocabulary_statistics

__all__ = ["RelaxTrainer"]


class RelaxTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` whose loss is an `Objective`.

    Args:
        objective: the method; calibrated on the first rollout batch where it looks at hidden states.
        recorder: receives the rows of every rollout batch; None to keep none.
        card: the model card, kept with the checkpoints; None to keep none.
        max_batches: budget of dynamic sampling, in rollout batches; 1 leaves groups that teach nothing where they are.
        branching: how groups are made of trunks and branches; None samples all completions apart.
        kwargs: those of `trl.GRPOTrainer`.

    Raises:
        ConfigError: when a micro-batch would not hold whole groups, or an update would straddle rollouts.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    accelerator: Any
    num_generations: Any
    num_generations_eval: Any
    _buffered_inputs: Any

    def __init__(
        self,
        *,
        objective: Objective,
        recorder: RolloutRecorder | None = None,
        card: str | None = None,
        max_batches: int = 1,
        branching: Branching | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._branching = branching
        self._prefix_lengths: list[int] | None = None
        if branching is not None and self.use_vllm:
            raise ConfigError("sampling.trunks needs generation by transformers; leave trainer.use_vllm out.")
        self._sampling = DynamicSampling(max_batches, self.args.seed) if max_batches > 1 else None
        self._card = card
        self.objective = objective
        self._recorder = recorder
        self._capture = ForwardCapture(self.accelerator.unwrap_model(self.model))
        self._local_rewards: Tensor | None = None
        self._calibrated_at: int | None = None
        self._update = UpdateSums()
        self._forecast = EntropyForecast()
        self._partition: PartitionHead | None = None
        if "log_partition" in objective.needs:
            width = self.accelerator.unwrap_model(self.model).get_output_embeddings().weight.shape[1]
            self._partition = PartitionHead(width).to(self.accelerator.device)
        if self.args.per_device_train_batch_size % self.num_generations:
            raise ConfigError(
                f"per_device_train_batch_size = {self.args.per_device_train_batch_size} is not a multiple of "
                f"num_generations = {self.num_generations}; a micro-batch must hold whole groups."
            )
        if self.args.steps_per_generation % self.args.gradient_accumulation_steps:
            raise ConfigError(
                f"steps_per_generation = {self.args.steps_per_generation} is not a multiple of "
                f"gradient_accumulation_steps = {self.args.gradient_accumulation_steps}; use one batch of rollouts."
            )

    # Rollouts -----------------------------------------------------------------------------------------------------

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        # The scores of all ranks come back; the rows of this rank are the ones that travel with the batch.
        start = self.accelerator.process_index * len(prompts)
        local = rewards_per_func[start : start + len(prompts)]
        weighted = (local * self.reward_weights.to(local.device)).nansum(dim=1)
        rewards = self._local_rewards = weighted.masked_fill(local.isnan().all(dim=1), float("nan"))
        if self._recorder is not None and self.model.training:
            ends: list[Any] = [*self.eos_token_ids, self._tokenizer.pad_token_id]
            self._recorder.start(
                inputs,
                prompts,
                completions,
                is_truncated=[not ids or ids[-1] not in ends for ids in completion_ids_list],
                num_tokens=[len(ids) for ids in completion_ids_list],
                scores=dict(zip(self.reward_func_names, local.T.tolist(), strict=True)),
                rewards=rewards.tolist(),
            )
        return rewards_per_func

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rollout = self._sample(inputs)
        sampling = self._sampling
        if sampling is not None and self.model.training:
            rollout, figures = sampling.refilled(
                rollout,
                self._sample,
                self.accelerator,
                self.train_dataset,
                self.num_generations,
                self._tokenizer.pad_token_id,
            )
            for name, value in figures.items():
                self._metrics["train"][name].append(value)
            if self._recorder is not None:
                self._recorder.rows = rollout.rows
        output = rollout.tensors
        output["row"] = torch.arange(len(output["rewards"]), device=self.accelerator.device)
        return output

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if self._branching is None or not self.model.training:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

        def complete(prompts: list[list[int]]) -> list[list[int]]:
            return super(RelaxTrainer, self)._generate_single_turn(prompts, *args, **kwargs)[0]

        prompts = [list(ids) for ids in prompt_ids]
        completions, self._prefix_lengths = self._branching.completed(
            prompts, complete, self._entropies, self._tokenizer
        )
        return completions, None

    @torch.no_grad()
    def _entropies(self, prompts: list[list[int]], completions: list[list[int]]) -> list[Tensor]:
        """(T_i) entropy of each token of some completions."""
        rows = [torch.tensor(prompt + completion) for prompt, completion in zip(prompts, completions, strict=True)]
        ids = pad(rows, padding_value=self._tokenizer.pad_token_id, padding_side="right").to(self.accelerator.device)
        mask = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="right").to(ids.device)
        _, entropy, _ = self._get_per_token_logps_and_entropies(
            self.model, ids, mask, ids.shape[1] - 1, self.args.per_device_train_batch_size, compute_entropy=True
        )
        starts = [len(prompt) - 1 for prompt in prompts]
        lengths = [len(completion) for completion in completions]
        return [row[start : start + length] for row, start, length in zip(entropy, starts, lengths, strict=True)]

    def _sample(self, inputs: list[dict[str, Any]]) -> Rollout:
        """TRL's completions of some prompts, scored, and what the objective is to know of each row."""
        output = super()._generate_and_score_completions(inputs)
        if self._local_rewards is None:
            raise ModelError("TRL generated completions without scoring them; this version of TRL does not fit.")
        output["rewards"] = self._local_rewards
        if self._prefix_lengths is not None:
            prefix = torch.tensor(self._prefix_lengths, device=output["completion_ids"].device).unsqueeze(-1)
            places = torch.arange(output["completion_ids"].shape[1], device=prefix.device)
            output["tool_mask"], self._prefix_lengths = (places >= prefix).long(), None
        device = self.accelerator.device
        credit = self.objective.token_weights
        if isinstance(credit, PlanningCredit):
            ids = [
                row[keep].tolist()
                for row, keep in zip(output["completion_ids"], output["completion_mask"].bool(), strict=True)
            ]
            width = output["completion_ids"].shape[1]
            output["planning_mask"] = planning_mask(self._tokenizer, ids, credit.grams, width).to(device)
        output["prompt_key"] = torch.tensor([prompt_key(given["prompt"]) for given in inputs], device=device)
        rows = [{} for _ in inputs] if self._recorder is None else self._recorder.rows
        return Rollout(output, rows)

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

    def _whole_groups(self, shuffled: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """TRL's micro-batches with its shuffle of the rows undone, and the totals of each update added."""
        parts: list[dict[str, Any]] = [split_pixel_values_by_grid(part) for part in shuffled]
        order = torch.cat([part["row"] for part in parts]).argsort()
        rows: dict[str, Any] = {}
        for key, first in parts[0].items():
            if isinstance(first, Tensor) and first.ndim > 0:
                rows[key] = torch.cat([part[key] for part in parts])[order]
            elif isinstance(first, list):
                joined = [item for part in parts for item in part[key]]
                rows[key] = [joined[index] for index in order.tolist()]
            else:
                rows[key] = first
        split: list[Any] = split_tensor_dict(rows, len(parts))
        batches: list[dict[str, Any]] = [unsplit_pixel_values_by_grid(part) for part in split]
        window = self.args.gradient_accumulation_steps
        for start in range(0, len(batches), window):
            update = batches[start : start + window]
            num_tokens = sum(self._completion_mask(batch).sum() for batch in update)
            total = self.accelerator.reduce(torch.as_tensor(num_tokens, dtype=torch.float64), reduction="sum")
            for batch in update:
                batch["num_update_tokens"] = float(total)
        return batches

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
        )

    def _log_partition(self, inputs: dict[str, Any], forward: ForwardRecord, group: int) -> Tensor | None:
        """(P,) log Z of each prompt, from the first row of its group, where the objective learns it."""
        if self._partition is None:
            return None
        mask = inputs["prompt_mask"][::group].bool()
        self._partition.train(self.model.training)
        return self._partition(forward.hidden_states[::group, : mask.shape[1]], mask)

    @staticmethod
    def _completion_mask(inputs: dict[str, Any]) -> Tensor:
        mask = inputs["completion_mask"]
        return (mask * inputs["tool_mask"] if "tool_mask" in inputs else mask).bool()

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
        return step % probe.settings.refit_interval == 0 and self._calibrated_at != step

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
