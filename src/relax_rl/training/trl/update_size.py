"""How far an update moves the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["UpdateSize", "sampled_weights"]

_MOST_SAMPLED = 65_536


def sampled_weights(parameters: Iterable[torch.nn.Parameter]) -> Tensor:
    """(N,) float32: every n-th entry of each trained tensor, some 65,536 in all; a copy."""
    trained = [parameter.detach() for parameter in parameters if parameter.requires_grad]
    step = max(1, math.ceil(sum(tensor.numel() for tensor in trained) / _MOST_SAMPLED))
    parts = [tensor.reshape(-1)[::step].float() for tensor in trained]
    return torch.cat(parts)


class UpdateSize(TrainerCallback):
    """Has the trainer log the root mean square of the change of a weight in each update, over a sample of the weights.

    Nothing is told of weights that lie in shards.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._before: Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        is_sharded = self._trainer.is_fsdp_enabled or self._trainer.is_deepspeed_enabled
        self._before = None if is_sharded else sampled_weights(self._trainer.policy.parameters())

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._before is not None:
            change = sampled_weights(self._trainer.policy.parameters()) - self._before
            self._trainer._metrics["train"]["update/rms"].append(float(change.double().square().mean().sqrt()))
        self._before = None
