"""The rollouts of GRPO by TRL, as our objectives need them: whole groups, in order, with all that is known of each row.

Nothing is copied out of TRL: its generation and its scoring are called, and their rows added to.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import pad

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.images.look import Look
from relax_rl.latent.images.sharing import shown
from relax_rl.latent.padding import right_padded
from relax_rl.training.trl.architectures import check_architecture, of_one_length
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.group_sampler import GroupSampler
from relax_rl.training.trl.head import in_trimmed_chunks, scored_positions
from relax_rl.training.trl.looking import in_chunks_of_rows
from relax_rl.training.trl.micro_batches import by_length, in_order, micro_batches, padding_of, trimmed
from relax_rl.training.trl.refill import DynamicSampling, Rollout
from relax_rl.training.trl.scored import ScoredTrainer
from relax_rl.training.trl.strategy import check_strategy, is_sharded, whole_weights

__all__ = ["RolloutTrainer"]


class RolloutTrainer(ScoredTrainer):
    """`trl.GRPOTrainer` whose rollout batches are whole groups.

    Args:
        max_batches: budget of dynamic sampling, in rollout batches; 1 leaves groups that teach nothing where they are.
        branching: trunks and branches of a group; None samples all completions apart.
        group_sampler: samples in place of TRL; None leaves it to TRL.
        kwargs: those of `ScoredTrainer`; `args` is a `RelaxConfig`, which keeps micro-batches and updates whole.

    Raises:
        ConfigError: for trunks, dynamic sampling or a sampler of ours with prompts that have images, or with a sharded
            model; see `check_architecture`.
        ModelError: see `check_architecture`.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    accelerator: Any
    num_generations: Any
    num_generations_eval: Any
    _buffered_inputs: Any
    _tokenizer: Any
    processing_class: Any

    def __init__(
        self,
        *,
        max_batches: int = 1,
        branching: Branching | None = None,
        group_sampler: GroupSampler | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._plan = check_architecture(self.accelerator.unwrap_model(self.model).config, self.args)
        if (self.is_fsdp_enabled or self.is_deepspeed_enabled) and not self._plan.pads_prompts:
            # The ranks have prompts of different lengths, so that one would generate more often and wait for the rest.
            raise ConfigError(
                "This model takes padding into its state, so that prompts are sampled one length at a time, which a "
                "sharded run cannot do; train it without FSDP and DeepSpeed."
            )
        self._branching = branching
        self._group_sampler = group_sampler
        self._occasions: list[str] = []
        self._leaves_old_out = False
        self._sampling = DynamicSampling(max_batches, self.args.seed) if max_batches > 1 else None
        self._prefix_lengths: list[int] | None = None
        if branching is not None and self.use_vllm:
            raise ConfigError("sampling.trunks needs generation by transformers; leave trainer.use_vllm out.")
        if group_sampler is not None and (kwargs.get("tools") or kwargs.get("environment_factory")):
            raise ConfigError("A group_sampler draws one turn a completion; leave out tools and environment_factory.")
        # An iterable data set may not know its columns.
        if "images" in (kwargs["train_dataset"].column_names or ()):
            if branching is not None:
                raise ConfigError("sampling.trunks does not take prompts with images; leave it out.")
            if self._sampling is not None:
                raise ConfigError("sampling.max_batches above 1 does not take prompts with images; set it to 1.")
            if group_sampler is not None:
                raise ConfigError("sampling.engine = relax does not take prompts with images; set it to generate.")
        check_strategy(self.accelerator, self.args)

    @property
    def forwards_in_step(self) -> bool:
        """Whether the policy is sharded and never gathered: every forward is one of all processes."""
        return is_sharded(self.accelerator) and self._group_sampler is None

    @contextmanager
    def whole_policy(self, *, in_training: bool = False) -> Generator[Any]:
        """The policy to evaluate, whole unless `forwards_in_step`. Collective.

        A sharded policy is sharded, and on its device, once the trainer has prepared it.

        Args:
            in_training: training goes on afterwards. Otherwise the trainer's own precision is taken away, for good.
        """
        policy = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=in_training)
        if is_sharded(self.accelerator) and not self.forwards_in_step:
            with whole_weights(self.model_wrapped, self.accelerator):
                yield policy
        else:
            yield policy

    @property
    def last_rollout(self) -> list[dict[str, Any]]:
        """The micro-batches of the rollout batch in use, of this process; empty before the first."""
        return list(self._buffered_inputs or ())

    @property
    def samples_groups(self) -> bool:
        """Whether a sampler of ours draws the rollouts, and not TRL."""
        return self._group_sampler is not None

    def _state_in_objects(self) -> dict[str, Any]:
        return super()._state_in_objects() | {"draws": 0 if self._sampling is None else self._sampling.draws}

    def _rewind(self, last: dict[str, Any]) -> None:
        super()._rewind(last)
        if self._sampling is not None:
            self._sampling.draws = last["objects"]["draws"]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rollout = self._sample(inputs, f"update {self.state.global_step}")
        sampling = self._sampling
        if sampling is not None and self.model.training:
            rollout, figures = sampling.refilled(
                rollout,
                self._refill,
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

    def _refill(self, inputs: list[dict[str, Any]]) -> Rollout:
        draws = 0 if self._sampling is None else self._sampling.draws
        return self._sample(inputs, f"draw {draws} of process {self.accelerator.process_index}")

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if self._group_sampler is not None and self.model.training:
            return self._by_group_sampler(self._group_sampler, prompt_ids), None
        if self._plan.pads_prompts and (self._branching is None or not self.model.training):
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

        def sample(prompts: Any) -> list[list[int]]:
            return super(RolloutTrainer, self)._generate_single_turn(prompts, *args, **kwargs)[0]

        def complete(prompts: Any) -> list[list[int]]:
            return sample(prompts) if self._plan.pads_prompts else of_one_length(prompts, sample)

        if self._branching is None or not self.model.training:
            return complete(prompt_ids), None
        return self._branched(self._branching, prompt_ids, complete), None

    def _by_group_sampler(self, sampler: GroupSampler, prompt_ids: Any) -> list[list[int]]:
        def sample(prompts: Any, count: int, occasions: list[str]) -> list[list[int]]:
            # Processes take different numbers of steps, and those of a sharded model would wait for each other.
            with whole_weights(self.model_wrapped, self.accelerator) as model:
                return sampler.completions(model, self.processing_class, prompts, occasions, count)

        branching = self._branching
        if branching is None:
            return sample(prompt_ids, self.num_generations, self._occasions)
        of_branches = [f"{name}/trunk {trunk}" for name in self._occasions for trunk in range(branching.trunks)]
        stages = iter([(branching.trunks, self._occasions), (branching.branches, of_branches)])
        return self._branched(branching, prompt_ids, lambda prompts: sample(prompts, *next(stages)))

    def _branched(self, branching: Branching, prompt_ids: Any, complete: Any) -> list[list[int]]:
        prompts = [list(ids) for ids in prompt_ids]
        completions, self._prefix_lengths = branching.completed(prompts, complete, self._entropies, self._tokenizer)
        return completions

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        if self._leaves_old_out and not kwargs.get("compute_entropy"):
            self._leaves_old_out = False
            return input_ids.new_full((len(input_ids), logits_to_keep), torch.nan, dtype=torch.float32), None, None
        own = self.accelerator.unwrap_model(model)

        def scored(ids: Tensor, mask: Tensor, num_kept: int, looks: Sequence[Look] = ()) -> Any:
            # TRL pads prompts on the left and tells the model no positions.
            with right_padded(own, self._plan), scored_positions(own), shown(own, looks):
                return super(RolloutTrainer, self)._get_per_token_logps_and_entropies(
                    model, ids, mask, num_kept, batch_size, **kwargs
                )

        if self._in_view:
            # As wide as micro-batches are, and with the same rows together: the same bits.
            size = batch_size or len(input_ids)
            return in_chunks_of_rows(scored, input_ids, attention_mask, logits_to_keep, size, self._in_view)
        has_images = any(kwargs.get(name) is not None for name in ("num_images", "pixel_values"))
        if batch_size is None or batch_size >= len(input_ids) or has_images or torch.is_grad_enabled():
            return scored(input_ids, attention_mask, logits_to_keep)
        return in_trimmed_chunks(scored, input_ids, attention_mask, logits_to_keep, batch_size)

    @torch.no_grad()
    def _entropies(self, prompts: list[list[int]], completions: list[list[int]]) -> list[Tensor]:
        """(T_i) entropy of each token of some completions."""
        rows = [torch.tensor(prompt + completion) for prompt, completion in zip(prompts, completions, strict=True)]
        ids = pad(rows, padding_value=self._tokenizer.pad_token_id).to(self.accelerator.device)
        mask = pad([torch.ones_like(row) for row in rows]).to(ids.device)
        _, entropy, _ = self._get_per_token_logps_and_entropies(
            self.model, ids, mask, ids.shape[1] - 1, self.args.per_device_train_batch_size, compute_entropy=True
        )
        starts = [len(prompt) - 1 for prompt in prompts]
        lengths = [len(completion) for completion in completions]
        return [row[start : start + length] for row, start, length in zip(entropy, starts, lengths, strict=True)]

    def _sample(self, inputs: list[dict[str, Any]], occasion: str) -> Rollout:
        """Completions of some prompts, scored by TRL, and what the objective is to know of each row.

        Args:
            occasion: name that distinguishes this batch from every other one of the run.
        """
        if self._group_sampler is not None:
            self._occasions = self._group_sampler.occasions(inputs, occasion)
        # TRL asks for the old log-probabilities first, then for those of the reference.
        self._leaves_old_out = self._learns_from_old and self.model.training
        with self._showing(inputs) as rows:
            output = super()._generate_and_score_completions(rows)
            if self._in_view:
                output["looks"] = self._in_view
        if self._local_rewards is None:
            raise ModelError("TRL generated completions without scoring them; this version of TRL does not fit.")
        output["rewards"] = self._local_rewards
        output["sampled_length"] = self._local_lengths
        if self._prefix_lengths is not None:
            prefix = torch.tensor(self._prefix_lengths, device=output["completion_ids"].device).unsqueeze(-1)
            places = torch.arange(output["completion_ids"].shape[1], device=prefix.device)
            output["tool_mask"], self._prefix_lengths = (places >= prefix).long(), None
        output |= self._columns(inputs, output)
        rows = [{} for _ in inputs] if self._recorder is None else self._recorder.rows
        return Rollout(output, rows)

    @property
    def _learns_from_old(self) -> bool:
        """Whether the policy that learns is not the one that sampled, and TRL needs no log-probabilities of the latter.

        They are computed in the micro-batches of the updates then: the same rows, padded alike, give the same bits, so
        that the ratio is exactly 1 until the first step. A penalty such as KL-Cov's has no gradient there, and a full
        one at any distance.
        """
        uses = self.args.steps_per_generation * self.num_iterations
        needed_now = self.use_vllm and self.vllm_importance_sampling_correction
        return bool(self.args.gradient_accumulation_steps % uses) and not needed_now

    def _columns(self, given: list[dict[str, Any]], output: dict[str, Any]) -> dict[str, Any]:
        """Columns that a subclass adds to freshly sampled rows."""
        return {}

    def _whole_groups(self, shuffled: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Micro-batches of whole groups from TRL's shuffled ones, with the totals of each update added.

        In order as wide as TRL made them, where the objective asks for it or there are images; else by length.
        """
        rows = in_order(shuffled)
        window = self.args.gradient_accumulation_steps
        if self._keeps_layout or "num_images" in rows or "looks" in rows:
            batches = micro_batches(rows, len(shuffled))
        else:
            if window > 1:
                rows = by_length(rows, self.num_generations, window * self.args.per_device_train_batch_size)
            parts = micro_batches(rows, len(shuffled))
            batches = [trimmed(part, self.args.pad_to_multiple_of) for part in parts]
        for start in range(0, len(batches), window):
            update = batches[start : start + window]
            num_tokens = sum(int(self._completion_mask(batch).sum()) for batch in update)
            sums = torch.tensor([num_tokens, *padding_of(update)], dtype=torch.float64, device=self.accelerator.device)
            total, padding, positions = self.accelerator.reduce(sums, reduction="sum").tolist()
            for batch in update:
                batch["num_update_tokens"] = total
                batch["padding"] = padding / positions
        return batches

    @property
    def _keeps_layout(self) -> bool:
        """Whether the loss depends on which rows are in a micro-batch together, or on how wide it is."""
        return False

    @staticmethod
    def _completion_mask(inputs: dict[str, Any]) -> Tensor:
        mask = inputs["completion_mask"]
        return (mask * inputs["tool_mask"] if "tool_mask" in inputs else mask).bool()
