"""How the processes of a run share its model: what was asked for, and what happens."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate.utils import DistributedType, parse_flag_from_env

from relax_rl.errors import ConfigError

__all__ = ["check_strategy", "is_sharded", "join_processes", "strategy_of"]


def is_sharded(accelerator: Any) -> bool:
    """Whether each process holds a part of the weights alone, so that every forward is one of all processes."""
    kind, state = accelerator.distributed_type, accelerator.state
    is_stage_3 = kind == DistributedType.DEEPSPEED and state.deepspeed_plugin.zero_stage == 3
    return kind == DistributedType.FSDP or is_stage_3


def join_processes(args: Any) -> None:
    """Join the other processes of a launch, where they are on the CPU, under `ddp_timeout`.

    For accelerators transformers does so; on the CPU it leaves the timeout out.
    """
    is_launched = "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if args.use_cpu and is_launched and not torch.distributed.is_initialized():
        timeout = timedelta(seconds=args.ddp_timeout)
        torch.distributed.init_process_group(args.ddp_backend or "gloo", timeout=timeout)


def strategy_of(accelerator: Any) -> str:
    """In words: one process, DDP, FSDP1 or FSDP2, DeepSpeed with its stage."""
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP:
        return f"FSDP{accelerator.state.fsdp_plugin.fsdp_version}"
    if kind == DistributedType.DEEPSPEED:
        return f"DeepSpeed ZeRO-{accelerator.state.deepspeed_plugin.zero_stage}"
    if kind == DistributedType.NO:
        return "one process"
    return "DDP" if str(kind.value).startswith("MULTI_") else str(kind.value)


def check_strategy(accelerator: Any, args: Any) -> None:
    """Refuse a run whose model would not be shared as was asked, by the arguments or by ``accelerate launch``.

    Accelerate takes FSDP up on accelerators only; elsewhere it runs DDP and says nothing.

    Raises:
        ConfigError: naming what would run instead.
    """
    asked = {
        DistributedType.FSDP: bool(args.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP"),
        DistributedType.DEEPSPEED: bool(args.deepspeed) or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"),
    }
    for kind, is_asked in asked.items():
        if is_asked and accelerator.distributed_type != kind:
            name = {DistributedType.FSDP: "FSDP", DistributedType.DEEPSPEED: "DeepSpeed"}[kind]
            raise ConfigError(
                f"{name} is asked for, by trainer.{kind.value.lower()} or by accelerate's configuration, but this run "
                f"would be {strategy_of(accelerator)} on {accelerator.device.type}; start it with several processes on "
                f"accelerators, or leave {name} out."
            )
