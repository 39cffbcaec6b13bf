"""One number for each prompt, the same whenever the prompt returns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relax_rl.tasks.base import image_digest
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows

__all__ = ["PromptKeys", "prompt_key"]


def prompt_key(prompt: Any, images: Sequence[Any] = ()) -> int:
    """A number below 2^63 that stands for a prompt and its images, the same in every process and every run."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    text += image_digest(images)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


class PromptKeys(Provider):
    """A digest of the prompt and its images, so that a prompt is known when it returns."""

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        keys = [prompt_key(row["prompt"], row.get("images") or ()) for row in given]
        return {"prompt_key": torch.tensor(keys, device=self.trainer.accelerator.device)}

    def tensor(self, micro: MicroBatch) -> Tensor | None:
        return micro.rows["prompt_key"][:: micro.group_size]
