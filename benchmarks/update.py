"""What ReLaX adds to an update: loss, backward and optimiser step by three losses in turn, and the peak memory.

python benchmarks/suite.py --only update

TRL's own GRPO, ours, and ReLaX take turns in one process, on the same model, optimiser and synthetic rollout batch:
the embedded policy, and SmolLM2-135M (a random model of its shape without models/smollm2; speed does not depend on the
weights). Nothing is generated and beta is 0 for all: the completions and the reference model's log-probabilities
belong to the rollout, which all methods share. Activation checkpointing is off. Peak memory is that of a process for
each loss.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from trl import GRPOTrainer

from frame.rows import Effort, Row, row_of_times
from frame.timing import apart, in_turn, peak_memory
from relax_rl.objectives import RolloutBatch, build_objective
from relax_rl.training.models import SMOLLM2_DIRECTORY, load_model, load_tokenizer
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer

LOSSES = ("trl grpo", "grpo", "relax")
TARGET = 1.03
"""Of an update by ReLaX, in that of our GRPO: time and memory."""


@dataclass(frozen=True)
class Size:
    """A policy and the rollout batch of one update of it.

    Attributes:
        model: "tiny" or "smollm2".
        completions: of one group, hence half of them right.
        prompt: tokens of a prompt.
        length: tokens of a completion.
        target: of ReLaX in our GRPO.
    """

    model: str
    completions: int
    prompt: int
    length: int
    target: float

    def __str__(self) -> str:
        return f"{'embedded policy' if self.model == 'tiny' else 'SmolLM2-135M'}, {self.completions} x {self.length}"


EMBEDDED = Size("tiny", 64, 24, 96, 1.06)
SMOLLM2 = Size("smollm2", 8, 64, 256, 1.03)


def policy(name: str) -> PreTrainedModel:
    """The embedded policy; SmolLM2-135M, or a random model of its shape."""
    if name == "tiny" or (SMOLLM2_DIRECTORY / "model.safetensors").is_file():
        return load_model(name)[0]
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(shape)


def no_reward(completions: list[str], **_: Any) -> list[float]:
    """Called only when the trainer tries it: the rollout batch brings its rewards."""
    return [0.0] * len(completions)


def rollout(vocabulary: int, size: Size) -> dict[str, Any]:
    """One group of completions, half of them right, as TRL hands them to ``compute_loss``."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.arange(size.completions) % 2
    advantages = (rewards - rewards.float().mean()) / (rewards.float().std() + 1e-4)
    prompt, completion = (
        torch.randint(vocabulary, (size.completions, tokens), generator=generator)
        for tokens in (size.prompt, size.length)
    )
    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": torch.ones_like(completion),
        "advantages": advantages,
        "rewards": rewards.float(),
        "row": torch.arange(size.completions),
        "num_items_in_batch": torch.tensor(float(completion.numel())),
        "num_update_tokens": float(completion.numel()),
    }


class Bench:
    """One model and one optimiser, stepped by whichever loss is asked for."""

    def __init__(self, size: Size, folder: str) -> None:
        self.size, model = size, policy(size.model)
        args = RelaxConfig(
            output_dir=folder,
            per_device_train_batch_size=size.completions,
            num_generations=size.completions,
            max_completion_length=size.length,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=False,
            report_to="none",
        )
        self.objectives = {
            "grpo": build_objective("grpo"),
            "relax": build_objective("relax", beta=0.0, xi="quantile:0.9"),
        }
        self.trainer = RelaxTrainer(
            objective=self.objectives["grpo"],
            model=model,
            args=args,
            processing_class=load_tokenizer("tiny"),
            reward_funcs=[no_reward],
            train_dataset=Dataset.from_list([{"prompt": "1"}]),
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.trainer.model.train()
        self.trainer.create_optimizer()
        self.batch = rollout(model.config.vocab_size, size)

    def calibrate(self) -> float:
        """Fit the dictionary and xi on the batch, once, as a run does before its first update; the seconds it took."""
        start = time.perf_counter()
        self.trainer.objective = self.objectives["relax"]
        self.trainer._calibrate([self.batch])
        self.objectives["relax"] = self.trainer.objective
        return time.perf_counter() - start

    def update(self, loss: str) -> Tensor:
        """One whole update by one of ``LOSSES``; its loss."""
        trainer = self.trainer
        compute = GRPOTrainer.compute_loss if loss == "trl grpo" else RelaxTrainer.compute_loss
        trainer.objective = self.objectives.get(loss, self.objectives["grpo"])
        value = compute(trainer, trainer.model, self.batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        assert isinstance(trainer.optimizer, torch.optim.Optimizer)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return value.detach()

    def objective_alone(self, loss: str) -> None:
        """Loss and backward of our objective on ready log-probabilities and states, without the model."""
        shape = (1, self.size.completions, self.size.length)
        generator = torch.Generator().manual_seed(1)
        states = torch.randn((*shape, self.trainer.model.config.hidden_size), generator=generator).requires_grad_()
        log_probs = (-torch.rand(shape, generator=generator)).requires_grad_()
        batch = RolloutBatch(
            log_probs=log_probs,
            old_log_probs=log_probs.detach(),
            mask=torch.ones(shape, dtype=torch.bool),
            rewards=self.batch["rewards"].unflatten(0, (1, self.size.completions)),
            hidden_states=states,
        )
        self.objectives[loss](batch).loss.backward()


def rows(effort: Effort) -> Iterator[Row]:
    """Time and memory of both policies; the small one alone where it has to be quick."""
    for size in (EMBEDDED,) if effort.is_quick else (EMBEDDED, SMOLLM2):
        # An update of SmolLM2 takes some ten seconds, and its peak memory hardly varies.
        rounds = min(effort.rounds, 2) if size is SMOLLM2 else effort.rounds
        yield from rows_of_time(size, rounds)
        yield from rows_of_memory(size, 1 if effort.is_quick or size is SMOLLM2 else 2)


def rows_of_time(size: Size, rounds: int) -> Iterator[Row]:
    """The three losses in turn."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(size, folder)
        calibration = bench.calibrate()
        times = in_turn({loss: partial(bench.update, loss) for loss in LOSSES}, rounds)
        alone = in_turn({loss: partial(bench.objective_alone, loss) for loss in LOSSES[1:]}, rounds)
    added = alone["relax"].median - alone["grpo"].median
    bound = (
        f"the terms of ReLaX alone, forward and backward without the model, take {1e3 * added:.0f} ms, "
        f"{100 * added / times['grpo'].median:.1f} % of the update"
    )
    note = f"the fit before the first update: {calibration:.1f} s"
    yield row_of_times(f"our GRPO, {size}", times["grpo"], times["trl grpo"], "TRL's GRPO, loss to step")
    yield row_of_times(
        f"ReLaX, {size}",
        times["relax"],
        times["grpo"],
        "our GRPO",
        target=size.target,
        bound=bound,
        floor=1 + added / times["grpo"].median,
        note=note,
    )


def rows_of_memory(size: Size, processes: int) -> Iterator[Row]:
    """Peak resident memory of processes that each know one loss alone."""
    peaks = {loss: min(apart(peak_of, size, loss) for _ in range(processes)) for loss in LOSSES}
    for loss, base, against in (("grpo", "trl grpo", "TRL's GRPO"), ("relax", "grpo", "our GRPO")):
        yield Row(
            name=f"{'our GRPO' if loss == 'grpo' else 'ReLaX'}, {size}, memory",
            ratio=peaks[loss] / peaks[base],
            against=against,
            ours=peaks[loss],
            theirs=peaks[base],
            unit="MiB",
            target=TARGET if loss == "relax" else None,
        )


def peak_of(size: Size, loss: str) -> float:
    """Two updates by one loss, then the peak resident memory of this process in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(size, folder)
        if loss == "relax":
            bench.calibrate()
        for _ in range(2):
            bench.update(loss)
    return peak_memory()
