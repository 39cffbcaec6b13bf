"""GRPO training by TRL, with our objective as the loss.

Nothing is copied out of TRL. Groups are a tensor shape, (P, G, ...): a micro-batch holds whole groups, in order, or all
micro-batches are parts of groups, and an update takes two passes (`relax_rl.training.trl.split_groups`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback

from relax_rl.config import GuardConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective, RolloutBatch
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.inputs import HIDDEN_STATES, PROMPT_KEYS
from relax_rl.training.calibration import Calibration
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.inputs.masked import check_shows_images
from relax_rl.training.inputs.provider import Rows
from relax_rl.training.inputs.providers import provider_of
from relax_rl.training.notices import Notices
from relax_rl.training.objective import objective_for
from relax_rl.training.objective_state import restore_objective, save_objective
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.group_sampler import GroupSampler
from relax_rl.training.trl.informed import InformedTrainer
from relax_rl.training.trl.minors import reference_options
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.relax_config import RelaxConfig, arguments_for, check_reference, given_arguments
from relax_rl.training.trl.sampled import gathered_rewards, remember_old
from relax_rl.training.trl.split_groups import SplitUpdate
from relax_rl.training.trl.strategy import leave_groups_of_vllm
from relax_rl.training.trl.update_size import UpdateSize
from relax_rl.training.trl.update_sums import UpdateSums, rank_means

__all__ = ["RelaxTrainer"]


class RelaxTrainer(InformedTrainer):
    """`trl.GRPOTrainer` whose loss is an objective of this package, or one's own.

    Takes all that `trl.GRPOTrainer` takes, in its order. A TRL script needs two changes: this class, and `RelaxConfig`.
    TRL keeps a reference model exactly where the objective needs one, and loads it from the policy's own place.

    Args:
        model: a name or folder, or a Hugging Face model, which is trained in place.
        args: a `RelaxConfig`; TRL's defaults when None.
        objective: a method's name (`relax_rl.objectives.METHODS`), ``package.module:function``, or an `Objective`. One
            that looks at hidden states is calibrated on the first rollout batch.
        objective_options: the method's settings, such as ``{"alpha": 0.1, "xi": "quantile:0.9"}``.
        card: the model card, kept with the checkpoints; None to keep none.
        recorder, max_batches, branching, group_sampler, most_prompt_tokens: see `RolloutTrainer` and `PolicyTrainer`.
        guard, notices: see `GuardedTrainer`.

    Raises:
        ConfigError: for a method or setting that does not exist, TRL's own `GRPOConfig`, more observables than a
            completion can bear, or a model that TRL could load no reference for.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: RelaxConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        tools: list[Callable[..., Any]] | None = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
        *,
        objective: str | Objective = "relax",
        objective_options: Mapping[str, Any] | None = None,
        card: str | None = None,
        recorder: RolloutRecorder | None = None,
        max_batches: int = 1,
        branching: Branching | None = None,
        group_sampler: GroupSampler | None = None,
        guard: GuardConfig | None = None,
        notices: Notices | None = None,
        most_prompt_tokens: int | None = None,
    ) -> None:
        given = given_arguments(args, model)
        method = objective_for(objective, objective_options or {}, given)
        columns = None if train_dataset is None else train_dataset.column_names
        check_shows_images(method, shows=columns is None or "images" in columns or "image" in columns)
        own = arguments_for(given, method.reference_coefficient, evaluates=eval_dataset is not None)
        if method.reference_coefficient and peft_config is None:
            check_reference(model)
            own.model_init_kwargs = reference_options(model, own.model_init_kwargs)
        super().__init__(
            objective=method,
            recorder=recorder,
            max_batches=max_batches,
            branching=branching,
            group_sampler=group_sampler,
            guard=guard,
            notices=notices,
            most_prompt_tokens=most_prompt_tokens,
            model=model,
            reward_funcs=reward_funcs,
            args=own,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        self._card = card
        self.add_callback(UpdateSize(self))
        self._update = UpdateSums()
        self._split: SplitUpdate | None = None
        self._to_remember: deque[Tensor] = deque(maxlen=self.args.steps_per_generation)
        self._forecast = EntropyForecast()
        self._calibration = Calibration(self, provider_of(HIDDEN_STATES, self), self.notices)

    # Before an update ---------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        previous = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            return inputs
        if self._buffered_inputs is not previous:
            self._buffered_inputs = self._whole_groups(self._buffered_inputs)
            if self._learns_from_old:
                remember_old(self, self._buffered_inputs)
            for follower in self._following:
                follower.before_updates(self._buffered_inputs)
                for name, value in follower.figures().items():
                    self._metrics["train"][name].append(value)
            if PROMPT_KEYS in self.objective.inputs:
                rewards_of_ranks = gathered_rewards(self, self._buffered_inputs, self.num_generations)
                self._set_objective(self.objective.before_rollout(**rewards_of_ranks))
            if self._calibration.is_due(self.state.global_step):
                self._calibrate(self._buffered_inputs)
        place, window = self._step % self.args.steps_per_generation, self.args.gradient_accumulation_steps
        if place % window == 0:
            if "padding" in self._buffered_inputs[place]:  # a checkpoint of an earlier version lacks it
                self._metrics["train"]["batch/padding"].append(self._buffered_inputs[place]["padding"])
            update = self._buffered_inputs[place : place + window]
            for wanted in self._in_order:
                self._provider(wanted).before_update(update)
            if self._splits_groups:
                self._split = self._split_update(update)
        return self._buffered_inputs[place]

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
        if mode == "train" and self._split is not None:
            loss = self._split.loss(inputs["row"], self._part(inputs, forward))
            metrics = {name: value for name, value in logged.items() if name not in self._split.output.metrics}
        else:
            batch = self.rollout_batch(inputs, forward)
            output = self.objective(batch)
            loss, metrics = output.loss, logged | rank_means(self.accelerator, output)
            if mode == "train":
                self._note(batch, output, inputs["row"], metrics)
        # TRL's own figures stay, except where the objective computes the same one.
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            self._end_of_micro_batch()
        # Shares are of the whole update on all ranks and simply add up, but DDP averages over ranks.
        return (loss + self._unseen(inputs)) * self.accelerator.num_processes

    def _split_update(self, batches: list[Rows]) -> SplitUpdate:
        """The first pass over an update whose micro-batches break groups, and what it says of the whole."""
        split = SplitUpdate.read(self.objective, batches, self._read_part)
        metrics = rank_means(self.accelerator, split.output)
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        self._note(split.batch, split.output, split.rows, metrics)
        return split

    def _note(self, batch: RolloutBatch, output: ObjectiveOutput, rows: Tensor, metrics: dict[str, float]) -> None:
        """Report of an objective on whole groups, for sums and records."""
        self._inspect(batch, output)
        self._update.add(batch, output.per_completion["advantage"], metrics)
        self._cost.add("dsd", output.latent_seconds)
        if output.to_remember is not None:
            self._to_remember.append(output.to_remember)
        if self._recorder is not None:
            self._recorder.add(output.per_completion, rows)

    def _end_of_micro_batch(self) -> None:
        window = self.args.gradient_accumulation_steps
        if self._step % window == window - 1:
            self._end_of_update()
        if self._recorder is not None and self._step % self.args.steps_per_generation == (
            self.args.steps_per_generation - 1
        ):
            self._recorder.finish(self.state.global_step + 1)

    def _end_of_update(self) -> None:
        """The update's gradient is there: what its figures say goes into the log and into the next objective."""
        report = self._update.report(self.accelerator, self.state.global_step + 1, self.state.max_steps)
        self._update = UpdateSums()
        self._forecast = self._forecast.after(report)
        for name, value in {**self._forecast.metrics, "advantage/rms": report.advantage_rms}.items():
            self._metrics["train"][name].append(value)
        if report.is_finite:
            self._set_objective(self.objective.after(report))
        uses = self.args.steps_per_generation * self.num_iterations
        if self._to_remember and self._step % uses == uses - 1:
            # The last pass over the rollout batch has each of its micro-batches once. A method that remembers gives
            # rows for every micro-batch, if only none of them: so either all ranks are here or none is.
            rows = gather_object([row for part in self._to_remember for row in part.cpu()])
            self._to_remember.clear()
            if rows:
                self._set_objective(self.objective.after_rollout(torch.stack(rows)))

    def _calibrate(self, batches: list[Rows]) -> None:
        self._set_objective(self._calibration.fitted(batches, self.state.global_step))

    def _set_objective(self, objective: Objective) -> None:
        self.objective = objective.on(self.accelerator.device)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The run's own card in place of TRL's, which knows neither the objective nor the task."""
        if self._card is not None and self.accelerator.is_main_process:
            (Path(str(self.args.output_dir)) / "README.md").write_text(self._card, encoding="utf-8")

    def leave_group(self) -> None:
        """Part from the other processes of a run; it cannot train afterwards.

        For the end of a program, which must not be left to Python: threads of gloo that give back a tensor then wait
        for an interpreter that is gone, and take the process down (SIGABRT) or hang it. The wrapper goes first, since
        what it keeps of the group would be joined with the interpreter locked.
        """
        if self.use_vllm and self.vllm_mode == "colocate":
            leave_groups_of_vllm()
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        self.accelerator.end_training()

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _in_memory(self) -> dict[str, Any]:
        return super()._in_memory() | {"to_remember": list(self._to_remember)}

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self._to_remember.clear()
        self._to_remember.extend(state["to_remember"])
        self._update = UpdateSums()

    def _state_in_objects(self) -> dict[str, Any]:
        return super()._state_in_objects() | {"objective": self.objective, "forecast": self._forecast}

    def _rewind(self, last: dict[str, Any]) -> None:
        super()._rewind(last)
        self._forecast = last["objects"]["forecast"]
        self._set_objective(last["objects"]["objective"])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            draws = 0 if self._sampling is None else self._sampling.draws
            save_objective(self.objective, self._forecast, folder, draws)

    def _load_own_state(self, folder: Path) -> None:
        super()._load_own_state(folder)
        objective, self._forecast, draws = restore_objective(self.objective, folder)
        if self._sampling is not None:
            self._sampling.draws = draws
        self._set_objective(objective)
