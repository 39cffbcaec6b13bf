"""The batches of an objective: groups of a micro-batch as a tensor shape, and all inputs that it asks for."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relax_rl.latent.capture import ForwardCapture, ForwardRecord
from relax_rl.objectives import Objective, RolloutBatch, UpdateTotals
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.training.inputs.masked import check_shows_images
from relax_rl.training.inputs.provider import MicroBatch, Observer, Provider, Rows
from relax_rl.training.inputs.providers import provider_of
from relax_rl.training.inputs.rollout import rollout_batch_of
from relax_rl.training.trl.rollouts import RolloutTrainer
from relax_rl.training.trl.split_groups import check_split_groups, lifted, survey_of_parts

__all__ = ["InformedTrainer"]


class InformedTrainer(RolloutTrainer):
    """`trl.GRPOTrainer` that makes the batches of an objective, with the inputs it asks for.

    TRL's `compute_loss` runs the forward while hooks listen; its loss is dropped. This is the `Trainer` of providers.

    Args:
        objective: decides which inputs are made.
        kwargs: those of `RolloutTrainer`.

    Raises:
        ConfigError: for an objective that reads images where there are none, or one that cannot do with parts of
            groups where micro-batches hold no whole ones.
    """

    def __init__(self, *, objective: Objective, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.objective = objective
        self._capture = ForwardCapture(self.accelerator.unwrap_model(self.model))
        check_shows_images(objective, shows=self._shares_looks)
        self._splits_groups = bool(self.args.per_device_train_batch_size % self.num_generations)
        if self._splits_groups:
            check_split_groups(objective, disable_dropout=self.args.disable_dropout)
        self._providers = {wanted: provider_of(wanted, self) for wanted in self._wanted}
        self._observers: list[Observer] = []

    # What providers ask of the trainer ----------------------------------------------------------------------------

    @property
    def policy(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    @property
    def text_tokenizer(self) -> Any:
        return self._tokenizer

    @property
    def is_training(self) -> bool:
        return self.model.training

    def completion_mask(self, rows: Rows) -> Tensor:
        return self._completion_mask(rows)

    def forward_only(self, rows: Rows) -> ForwardRecord:
        with torch.no_grad():
            return self._forward(self.model_wrapped, rows)[0]

    def surveys(self, batches: list[Rows]) -> list[Tensor]:
        if self._splits_groups:
            return survey_of_parts(self.objective, batches, self._read_part)
        return [self.objective.survey(self.rollout_batch(rows, self.forward_only(rows))) for rows in batches]

    @property
    def _wanted(self) -> frozenset[Input]:
        """The inputs of the objective as it is now, and the entropy, which every report of an update has."""
        return self.objective.inputs | {ENTROPY}

    def _provider(self, wanted: Input) -> Provider:
        # A term that was inactive at the start, such as a scheduled bonus, asks for its input only once it acts.
        if wanted not in self._providers:
            self._providers[wanted] = provider_of(wanted, self)
        return self._providers[wanted]

    def _columns(self, given: list[dict[str, Any]], output: Rows) -> Rows:
        found = [follower.sampled(given, output) for follower in self._following]
        return {name: column for columns in found for name, column in columns.items()}

    @property
    def _keeps_layout(self) -> bool:
        return self.objective.reads_layout

    @property
    def _in_order(self) -> list[Input]:
        """The inputs in one order on all ranks: a set's order differs between processes, and providers gather."""
        return sorted(self._wanted, key=lambda wanted: wanted.name)

    @property
    def _following(self) -> list[Observer]:
        """All that follow a rollout batch, in one order on all ranks."""
        return [*map(self._provider, self._in_order), *self._observers]

    def observe(self, observer: Observer) -> None:
        """Have an observer follow every rollout batch."""
        self._observers.append(observer)

    # The forward and its batch ----------------------------------------------------------------------------------------

    def _forward(self, model: Any, inputs: Any) -> tuple[ForwardRecord, dict[str, float]]:
        """TRL's own forward of a micro-batch, and the figures it logs with it; its loss is dropped."""
        mode = "train" if self.model.training else "eval"
        kept, self._metrics[mode] = self._metrics[mode], defaultdict(list)
        try:
            with self._capture.armed(), self._viewing(inputs.get("looks")):
                super().compute_loss(model, inputs)
        finally:
            logged, self._metrics[mode] = self._metrics[mode], kept
        return self._capture.take(), {name: values[-1] for name, values in logged.items()}

    def rollout_batch(self, rows: Rows, forward: ForwardRecord) -> RolloutBatch:
        """Batch of a micro-batch for the objective: its groups as a tensor shape, and the inputs it asks for."""
        group = self.num_generations if self.model.training else self.num_generations_eval
        micro = MicroBatch(rows, forward, self._completion_mask(rows), group)
        return rollout_batch_of(micro, self._inputs_of(micro), self._totals(rows, micro.mask, group))

    def _part(self, rows: Rows, forward: ForwardRecord) -> RolloutBatch:
        """Batch of a micro-batch that breaks groups, by row, in few columns."""
        micro = MicroBatch(rows, forward, self._completion_mask(rows), group_size=1)
        totals = self._totals(rows, micro.mask, self.num_generations)
        part = rollout_batch_of(micro, self._inputs_of(micro), totals, rows["row"] // self.num_generations)
        return lifted(part, self.objective)

    @torch.no_grad()
    def _read_part(self, rows: Rows) -> RolloutBatch:
        return self._part(rows, self.forward_only(rows))

    def _totals(self, rows: Rows, mask: Tensor, group: int) -> UpdateTotals:
        """Counts of the whole update on all ranks, by which every share of a loss is divided."""
        window = self.current_gradient_accumulation_steps if self.model.training else 1
        num_completions = mask.shape[0] * window * self.accelerator.num_processes
        return UpdateTotals(
            num_prompts=num_completions / group,
            num_completions=num_completions,
            num_tokens=rows.get("num_update_tokens", float(mask.sum())),
        )

    def _inputs_of(self, micro: MicroBatch) -> dict[Input, Tensor]:
        """The inputs that the objective asks for."""
        found: dict[Input, Tensor] = {}
        for wanted in self._in_order:
            tensor = self._provider(wanted).tensor(micro)
            if tensor is not None:
                found[wanted] = tensor
        return found

    # What providers learn ---------------------------------------------------------------------------------------------

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The optimiser of the policy, and of what a provider learns."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new:
            for provider in self._providers.values():
                provider.join(optimizer)
        return optimizer

    def _learners(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [pair for provider in self._providers.values() for pair in provider.learns()]

    def _drop_gradients(self) -> None:
        super()._drop_gradients()
        for provider in self._providers.values():
            provider.skip_step()

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            for provider in self._providers.values():
                provider.save(Path(output_dir or str(self.args.output_dir)))

    def _load_own_state(self, folder: Path) -> None:
        super()._load_own_state(folder)
        for provider in self._providers.values():
            provider.load(folder)
