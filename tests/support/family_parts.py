"""A family of image-text models under budgets and with parts that do not learn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from relax_rl.config import PeftConfig
from relax_rl.evaluation.lengths import long_prompts
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.latent.images.parts import part_of
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import Problem
from relax_rl.training.models import load_model, load_processor
from relax_rl.workflows.evaluate import evaluate
from relax_rl.workflows.train import prepare
from support.images import EvenVerifier

__all__ = ["Sized", "measure", "measure_lengths"]

SETTINGS: dict[str, Any] = {
    "trainer.max_steps": 1,
    "trainer.save_steps": 1,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 2,
    "trainer.max_completion_length": 8,
    "trainer.learning_rate": 1e-2,
    "objective": "grpo",
    "evaluation.enabled": False,
    "monitor": False,
}


@dataclass(frozen=True)
class Sized:
    """Images of twelve sizes, words of several lengths; the last one has far more words than the others."""

    name: str = "sized"
    verifier: EvenVerifier = field(default_factory=EvenVerifier)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        found: list[Problem] = []
        for place in range(12):
            size = (30 + 17 * (place % 4), 25 + 11 * (place % 3) + 7 * place)
            words = "where:" if place < 11 else "where is it now:" * 12
            images = tuple(Image.new("RGB", size, (place, 99, 7)) for _ in range(1 + place % 2))
            found.append(Problem(f"{split}-{place}", words, str(place % 2), images=images))
        return found[:count]


def measure_lengths(place: str) -> bool:
    """Whether prompts are counted as long as they are, and most of them by their sizes."""
    processor, form = load_processor(place), PromptForm()
    problems = Sized().problems("test")
    exact = {problem.id: len(encode_prompt(processor, problem, form)) for problem in problems}
    for room in (1, *sorted(exact.values())):
        expected = {problem_id for problem_id, length in exact.items() if length > room}
        assert set(long_prompts(processor, problems, form, room)) == expected, room
    return True


def measure(place: str, folder: Path) -> dict[str, Any]:
    """What moved in a run with a frozen tower, and where its adapter is; what an evaluation under budgets left out."""
    longest = max(len(encode_prompt(load_processor(place), problem)) for problem in Sized().problems("test")[:11])
    budgets = {"prompts.max_prompt_length": longest, "prompts.max_pixels": 40 * 40}
    common = SETTINGS | budgets | {"model": place, "task": "support.family_parts:Sized"}
    moved: dict[str, Any] = {}
    told: list[str] = []
    for name, settings in {"full": {}, "adapter": {"peft.r": 2}}.items():
        run = folder / name
        prepared = prepare(overrides=common | settings | {"freeze": "vision", "output": str(run)})
        told += [one for one in prepared.notices if "too long" in one]
        prepared.train()
        before, _ = load_model(place)
        after, _ = load_model(str(RunDirectory.open(run).latest_checkpoint()))
        old, parts = before.state_dict(), part_of(before)
        moved[name] = sorted(
            {parts[key] for key, value in after.named_parameters() if not torch.equal(old[key], value)}
        )
    result = evaluate(place, "support.family_parts:Sized", num_samples=1, max_completion_length=4,
                      max_prompt_length=longest, max_pixels=400, batch_size=4)  # fmt: skip
    held = json.loads((folder / "adapter/checkpoints/checkpoint-1/adapter_config.json").read_text())
    return {
        "lengths": measure_lengths(place),
        "moved": moved,
        "told": told,
        "left_out": [result.num_problems, *result.left_out],
        "excludes": PeftConfig().exclude_modules != held["exclude_modules"],
    }
