"""A trainer that runs in seconds: a random Llama, the shipped tokenizer, completions that need no sampling."""

from __future__ import annotations

import copy
import functools
import random
import tempfile
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from relax_rl.objectives import Objective
from relax_rl.rewards.turns import conversation_text
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer

GROUP = 4


def tiny_llama() -> LlamaForCausalLM:
    """The same random model every time, from a folder: TRL loads the reference model from the policy's own place."""
    return copy.deepcopy(_loaded())


@functools.cache
def _loaded() -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(_folder())


@functools.cache
def _folder() -> str:
    tokenizer = load_tokenizer("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
        pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
    )
    folder = tempfile.mkdtemp(prefix="tiny-llama-")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class ScriptedTrainer(RelaxTrainer):
    """Completions follow from the prompt and the place in the group alone, so runs can be compared token by token."""

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        completions = []
        for index, ids in enumerate(prompt_ids):
            rng = random.Random(f"{list(ids)}/{index % self.num_generations}")
            length = rng.randint(20, 30)
            completions.append([rng.randrange(4, 200) for _ in range(length)] + [self._tokenizer.eos_token_id])
        return completions, None


def parity_reward(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(conversation_text(completion)) % 2) for completion in completions]


def make_trainer(
    objective: Objective,
    output_dir: Any,
    model: Any = None,
    trainer_class: Any = None,
    processor: Any = None,
    task: Any = None,
    guard: Any = None,
    reward: Any = None,
    **settings: Any,
):
    tokenizer = processor or load_tokenizer("tiny")
    problems = CountdownTask().problems("train", 32) if task is None else task.problems("train")
    defaults = {
        "per_device_train_batch_size": 2 * GROUP,
        "gradient_accumulation_steps": 2,
        "num_generations": GROUP,
        "max_completion_length": 32,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "activation_checkpointing": False,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return (trainer_class or ScriptedTrainer)(
        objective=objective,
        model=model if model is not None else tiny_llama(),
        args=RelaxConfig(output_dir=str(output_dir), **(defaults | settings)),
        processing_class=tokenizer,
        reward_funcs=[parity_reward if reward is None else reward],
        train_dataset=prompt_dataset(problems, tokenizer),
        guard=guard,
    )
