"""What a run of TRL lacks to be resumed exactly: the order of the prompts in every pass."""

from __future__ import annotations

from typing import Any

from trl.trainer.grpo_trainer import GRPOTrainer

from relax_rl.training.trl.sampler import PromptSampler

__all__ = ["ResumableTrainer"]


class ResumableTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` whose runs can be resumed at any update."""

    # TRL leaves these open in its own annotations.
    args: Any
    num_generations: Any
    train_dataset: Any

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        args = self.args
        repeats = self.num_iterations * args.steps_per_generation
        return PromptSampler(
            len(self.train_dataset if dataset is None else dataset),
            group_size=self.num_generations,
            prompts_per_rollout=args.generation_batch_size // self.num_generations,
            repeats=repeats,
            updates_per_rollout=repeats // args.gradient_accumulation_steps,
            updates_done=lambda: self.state.global_step,
            seed=args.seed,
            shuffle=bool(self.shuffle_dataset),
        )
