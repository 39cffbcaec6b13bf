"""One look a prompt: an update of an image-text model, and the pixels that it holds, beside TRL's own trainer.

python benchmarks/suite.py --only looks

A random Qwen2.5-VL of the proportions of the 3B, an eighth as wide and a quarter as deep, with one image of 1,024
patches (256 tokens) in the prompt. One group of 16 completions; loss, backward and optimiser step. TRL's trainer gets
the pixels of each row, as its rollouts make them; ours gets them once. Both losses are GRPO's.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig, GRPOTrainer

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from relax_rl.latent.images.look import Look
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer
from update import no_reward

GROUP, IMAGE_TOKENS, WORDS = 16, 256, 32
LENGTHS = (64, 256)
TARGET = 0.65
"""Of an update by TRL's trainer."""


def policy(vocabulary: int) -> Qwen2_5_VLForConditionalGeneration:
    """The last id of the vocabulary stands for an image."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 256,
        "intermediate_size": 1376,
        "num_hidden_layers": 9,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    vision = {
        "hidden_size": 160,
        "out_hidden_size": 256,
        "intermediate_size": 428,
        "depth": 8,
        "num_heads": 2,
        "fullatt_block_indexes": [1, 3, 5, 7],
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=vocabulary - 1)
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config)


class Bench:
    """Two trainers of equal models, and one rollout batch in the form of each."""

    def __init__(self, length: int, folder: str) -> None:
        tokenizer = load_tokenizer("tiny")
        vocabulary = len(tokenizer) + 1
        ours = policy(vocabulary)
        shared: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": GROUP,
            "num_generations": GROUP,
            "max_completion_length": length,
            "activation_checkpointing": False,
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
        }
        given: dict[str, Any] = {
            "processing_class": tokenizer,
            "reward_funcs": [no_reward],
            "train_dataset": Dataset.from_list([{"prompt": "1"}]),
        }
        self.trainers: dict[str, Any] = {
            "trl": GRPOTrainer(model=copy.deepcopy(ours), args=GRPOConfig(**shared, loss_type="grpo"), **given),
            "ours": RelaxTrainer(objective="grpo", model=ours, args=RelaxConfig(**shared), **given),
        }
        for trainer in self.trainers.values():
            trainer.current_gradient_accumulation_steps = 1
            trainer.model.train()
            trainer.create_optimizer()
        self.batches = _batches(vocabulary, length)

    def update(self, side: str) -> Tensor:
        """Loss, backward and step."""
        trainer = self.trainers[side]
        loss = trainer.compute_loss(trainer.model, dict(self.batches[side]))
        loss.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return loss.detach()

    def tower_difference(self) -> float:
        """Of the gradients of the vision part, relative to the largest; before any step."""
        found: dict[str, list[Tensor]] = {}
        for side, trainer in self.trainers.items():
            trainer.compute_loss(trainer.model, dict(self.batches[side])).backward()
            tower = trainer.model.model.visual
            found[side] = [p.grad.clone() for p in tower.parameters() if p.grad is not None]
            trainer.model.zero_grad()
        largest = max(float(one.abs().max()) for one in found["trl"])
        pairs = zip(found["ours"], found["trl"], strict=True)
        return max(float((one - other).abs().max()) for one, other in pairs) / largest


def _batches(vocabulary: int, length: int) -> dict[str, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(vocabulary - 8, (WORDS,), generator=generator)
    prompt = torch.cat([torch.full((IMAGE_TOKENS,), vocabulary - 1), words])
    completion = torch.randint(vocabulary - 8, (GROUP, length), generator=generator)
    pixels = torch.randn(4 * IMAGE_TOKENS, 3 * 2 * 14 * 14, generator=generator)
    grid = torch.tensor([[1, 32, 32]])
    types = (prompt == vocabulary - 1).long()
    rewards = torch.arange(GROUP) % 2
    prompts = prompt.repeat(GROUP, 1)
    batch = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completion,
        "completion_mask": torch.ones_like(completion),
        "advantages": (rewards - rewards.float().mean()) / (rewards.float().std() + 1e-4),
        "num_items_in_batch": torch.tensor(float(completion.numel())),
    }
    look = Look(prompt.tolist(), {"mm_token_type_ids": types}, {"pixel_values": pixels, "image_grid_thw": grid})
    own = {"rewards": rewards.float(), "row": torch.arange(GROUP), "num_update_tokens": float(completion.numel())}
    repeated = {
        "pixel_values": pixels.repeat(GROUP, 1),
        "image_grid_thw": grid.repeat(GROUP, 1),
        "num_images": [1] * GROUP,
        "mm_token_type_ids": torch.cat([types.repeat(GROUP, 1), torch.zeros_like(completion)], dim=1),
    }
    return {
        "trl": batch | repeated,
        "ours": batch | own | {"looks": [look] * GROUP},
    }


def rows(effort: Effort) -> Iterator[Row]:
    """Time by length of the completions, and the memory of pixels."""
    for length in LENGTHS[:1] if effort.is_quick else LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(length, folder)
            difference = bench.tower_difference()
            times = in_turn({side: partial(bench.update, side) for side in bench.trainers}, effort.rounds)
            yield row_of_times(
                f"update of an image-text model, {GROUP} x {length}",
                times["ours"],
                times["trl"],
                "TRL's GRPO trainer",
                target=TARGET,
                note=f"gradients of the vision part differ by {difference:.0e} of the largest",
            )
    batches = _batches(64, 1)
    theirs, ours = batches["trl"]["pixel_values"], batches["ours"]["looks"][0].num_bytes
    yield Row(
        name=f"pixels of a group of {GROUP}",
        ratio=ours / (theirs.numel() * theirs.element_size()),
        against="TRL's GRPO trainer",
        ours=ours / 2**20,
        theirs=theirs.numel() * theirs.element_size() / 2**20,
        unit="MiB",
        target=2 / GROUP,
    )
