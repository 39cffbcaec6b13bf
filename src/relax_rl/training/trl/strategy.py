"""How the processes of a run share its model: what was asked for, and what happens."""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, parse_flag_from_env
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from trl.models.utils import unwrap_model_for_generation

from relax_rl.errors import ConfigError

__all__ = [
    "check_strategy",
    "held_parts",
    "is_sharded",
    "join_processes",
    "leave_groups_of_vllm",
    "load_whole_weights",
    "strategy_of",
    "whole_weights",
]

_GATHERS_ON_SAVE = "stage3_gather_16bit_weights_on_model_save"


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


@contextmanager
def whole_weights(wrapped: Any, accelerator: Any) -> Generator[Any]:
    """The policy, of which this process holds every weight meanwhile: it forwards without the other processes.

    Collective at both ends. A change of the weights is lost.

    Args:
        wrapped: the policy as the trainer holds it, prepared or not.
    """
    with unwrap_model_for_generation(wrapped, accelerator) as model, _without_checks_of_order(wrapped):
        parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
        if not parts:
            yield model
            return
        # A forward gathers what is not there and gives back what it gathered: nothing, between these lines.
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield model
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(accelerator.state.fsdp_plugin.reshard_after_forward, recurse=False)


@contextmanager
def _without_checks_of_order(wrapped: Any) -> Generator[None]:
    """Inside, ZeRO-3 does not compare the order of the layers over all processes as a forward starts.

    TRL removes the other hooks. With this one, the processes would have to take the same number of forwards.
    """
    optimizer = getattr(wrapped, "optimizer", None)
    offload: Any = getattr(optimizer, "parameter_offload", optimizer)
    handle = getattr(offload, "fwd_pre_hook", None)
    if handle is None:
        yield
        return
    check = offload.module._forward_pre_hooks[handle.id]
    handle.remove()
    try:
        yield
    finally:
        offload.fwd_pre_hook = offload.module.register_forward_pre_hook(check)


def held_parts(parameters: Iterable[Tensor]) -> list[Tensor]:
    """This process's part of some parameters. ZeRO-3 leaves an empty tensor in their place, the part beside it."""
    return [getattr(parameter, "ds_tensor", parameter).detach() for parameter in parameters]


def load_whole_weights(model: Any, folder: Path, accelerator: Any) -> None:
    """Take up the weights of a checkpoint of a sharded run, into a model that was not prepared for training."""
    with _open_to_changes(model, accelerator):
        for path in sorted(folder.glob("model*.safetensors")):
            # One file of several, and tied weights are written once.
            model.load_state_dict(load_file(path), strict=False)


def _open_to_changes(model: Any, accelerator: Any) -> AbstractContextManager[Any]:
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return nullcontext()
    # ZeRO-3 divides a model as it is loaded. What the first process writes inside is kept, on all of them.
    gathered = importlib.import_module("deepspeed").zero.GatheredParameters
    return gathered(list(model.parameters()), modifier_rank=0)


def leave_groups_of_vllm() -> None:
    """Have the engine in this process give its groups back, and ours with them.

    It would do so at exit, when the group that they are parts of is gone.
    """
    engine = importlib.import_module("vllm.distributed.parallel_state")
    engine.destroy_model_parallel()
    engine.destroy_distributed_environment()


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
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(accelerator.state.fsdp_plugin)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _save_whole(accelerator.state.deepspeed_plugin.deepspeed_config, is_own=bool(args.deepspeed))


def _check_fsdp(plugin: Any) -> None:
    if plugin.fsdp_version != 2:
        raise ConfigError(
            "This run would be sharded by FSDP1, which is not supported; set version = 2 in trainer.fsdp_config, or "
            "fsdp_version: 2 in accelerate's configuration."
        )
    if plugin.state_dict_type is not None and "FULL" not in str(plugin.state_dict_type):
        raise ConfigError(
            f"A checkpoint of FSDP with state_dict_type = {plugin.state_dict_type} holds no model that can be loaded; "
            "set it to FULL_STATE_DICT."
        )


def _save_whole(config: Any, *, is_own: bool) -> None:
    """Have ZeRO-3 write the model into each checkpoint, which it leaves out by default.

    Args:
        is_own: whether the run names the configuration itself, so that a value in it was written by somebody.
    """
    zero = config.get("zero_optimization", {})
    if zero.get("stage") != 3:
        return
    if is_own and zero.get(_GATHERS_ON_SAVE) is False:
        raise ConfigError(
            f"DeepSpeed's {_GATHERS_ON_SAVE} is false, so that no checkpoint would hold a model that can be loaded; "
            "set it to true, or leave it out."
        )
    zero[_GATHERS_ON_SAVE] = True
