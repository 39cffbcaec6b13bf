"""The batch settings in numbers: prompts, completions, micro-batches and updates, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from relax_rl.errors import ConfigError

__all__ = ["BatchPlan", "batch_arithmetic"]


class BatchSettings(Protocol):
    """The settings under ``trainer`` that the arithmetic reads."""

    @property
    def max_steps(self) -> int: ...
    @property
    def num_generations(self) -> int: ...
    @property
    def per_device_train_batch_size(self) -> int: ...
    @property
    def gradient_accumulation_steps(self) -> int: ...
    @property
    def steps_per_generation(self) -> int | None: ...
    @property
    def num_iterations(self) -> int: ...


class RunSettings(Protocol):
    """The settings of a run that the arithmetic reads."""

    @property
    def trainer(self) -> BatchSettings: ...
    @property
    def train_problems(self) -> int | None: ...


@dataclass(frozen=True)
class BatchPlan:
    """The batch settings in numbers; counts are over all processes, but a micro-batch is one process's forward."""

    num_processes: int
    group_size: int
    completions_per_micro_batch: int
    micro_batches_per_update: int
    prompts_per_rollout: int
    completions_per_rollout: int
    prompts_per_update: int
    completions_per_update: int
    updates_per_rollout: int
    """1 when a rollout batch serves one update or less."""
    updates: int
    rollouts: int
    total_completions: int

    def visits(self, num_problems: int) -> float:
        """How often each of so many problems is sampled from, on average."""
        return self.rollouts * self.prompts_per_rollout / num_problems

    @property
    def splits_groups(self) -> bool:
        """Whether a micro-batch holds parts of groups, so that an update takes one more forward."""
        return self.completions_per_micro_batch % self.group_size != 0

    def words(self) -> str:
        """Four lines for people, to be read before the run."""
        processes = "1 process" if self.num_processes == 1 else f"{self.num_processes} processes"
        parts = " (parts of groups: each update takes two passes)" if self.splits_groups else ""
        serves = f"{self.updates_per_rollout} updates" if self.updates_per_rollout > 1 else "1 update"
        return "\n".join(
            [
                f"rollout   {self.prompts_per_rollout:,} prompts x {self.group_size} completions = "
                f"{self.completions_per_rollout:,} completions, for {serves}",
                f"update    {self.prompts_per_update:,} prompts, {self.completions_per_update:,} completions: "
                f"{processes} x {self.micro_batches_per_update} micro-batches of "
                f"{self.completions_per_micro_batch}{parts}",
                f"run       {self.updates:,} updates from {self.rollouts:,} rollout batches",
                f"in all    {self.total_completions:,} completions sampled",
            ]
        )


def batch_arithmetic(config: RunSettings, num_processes: int = 1, num_problems: int | None = None) -> BatchPlan:
    """Meaning of the batch settings together, by TRL's rules.

    Args:
        config: The run's settings.
        num_processes: Processes that train together.
        num_problems: Problems of the training split, once they are known; until then ``config.train_problems``.

    Raises:
        ConfigError: Updates straddle rollout batches or take several, or there are fewer problems than one rollout
            batch takes.
    """
    trainer = config.trainer
    micro, accumulation = trainer.per_device_train_batch_size, trainer.gradient_accumulation_steps
    steps = trainer.steps_per_generation or accumulation
    if steps < accumulation:
        raise ConfigError(
            f"trainer.steps_per_generation = {steps} micro-batches are fewer than an update takes "
            f"(gradient_accumulation_steps = {accumulation}); set trainer.steps_per_generation to {accumulation}"
        )
    uses = steps * trainer.num_iterations  # micro-batches that one rollout batch serves
    if uses % accumulation:
        raise ConfigError(
            f"a rollout batch serves steps_per_generation x num_iterations = {uses} micro-batches and an update takes "
            f"gradient_accumulation_steps = {accumulation}, so updates would straddle rollout batches; set "
            f"trainer.steps_per_generation to {accumulation}"
        )
    updates_per_rollout = uses // accumulation
    completions = micro * steps * num_processes
    prompts = completions // trainer.num_generations
    num_problems = config.train_problems if num_problems is None else num_problems
    if num_problems is not None and num_problems < prompts:
        raise ConfigError(
            f"the training split has {num_problems} problems, fewer than the {prompts} prompts of one rollout batch; "
            "raise train_problems, or lower trainer.gradient_accumulation_steps or trainer.steps_per_generation"
        )
    rollouts = math.ceil(trainer.max_steps * accumulation / uses)
    return BatchPlan(
        num_processes=num_processes,
        group_size=trainer.num_generations,
        completions_per_micro_batch=micro,
        micro_batches_per_update=accumulation,
        prompts_per_rollout=prompts,
        completions_per_rollout=completions,
        prompts_per_update=micro * accumulation * num_processes // trainer.num_generations,
        completions_per_update=micro * accumulation * num_processes,
        updates_per_rollout=updates_per_rollout,
        updates=trainer.max_steps,
        rollouts=rollouts,
        total_completions=rollouts * completions,
    )
