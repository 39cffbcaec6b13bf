"""From a run's settings to its memory: whether it fits, and what to change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.workflows.memory.estimate import Estimate, Load, Strategy, estimated
from relax_rl.workflows.memory.hardware import GIB, Hardware
from relax_rl.workflows.memory.shape import ModelShape

__all__ = ["MemoryPlan", "load_of", "memory_plan"]

_MOMENTS = {"8bit": 2, "sgd": 0, "adafactor": 0, "lion": 1}
"""Values that an optimiser keeps for a parameter, by a part of its name; Adam and others keep two as wide as itself."""


@dataclass(frozen=True)
class MemoryPlan:
    """Needs of a run on each device.

    Attributes:
        load, estimate: its needs, and their sum.
        hardware: hardware of the run.
        changes: changes that make it fit, in order; empty where it fits, or where nothing here would.
    """

    load: Load
    estimate: Estimate
    hardware: Hardware
    changes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.estimate.peak.total <= self.hardware.usable

    def words(self) -> str:
        """Lines for people."""
        load, peak = self.load, self.estimate.peak
        lines = [
            f"memory    {self.hardware.name}, {load.strategy}: {peak.total / GIB:.2f} of "
            f"{self.hardware.usable / GIB:.1f} GiB a device, most in the {peak.name} "
            f"({'fits' if self.fits else 'does not fit'}; an estimate, +-15 %)"
        ]
        for moment in self.estimate.moments:
            parts = sorted(moment.parts.items(), key=lambda part: -part[1])
            shown = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts if size >= 0.005 * moment.total)
            lines.append(f"          {moment.name}: {shown}")
        if not self.fits:
            change = "; then ".join(self.changes) or "nothing among the settings is enough; take more devices"
            lines.append(f"          to fit: {change}")
        return "\n".join(lines)


def memory_plan(
    settings: TrainConfig,
    shape: ModelShape,
    hardware: Hardware,
    *,
    prompt_tokens: int,
    has_reference: bool,
    reads_states: bool,
) -> MemoryPlan:
    """The memory of a run.

    Args:
        prompt_tokens: tokens of the longest prompt.
        has_reference: whether the objective pulls towards the initial policy.
        reads_states: whether it reads hidden states.
    """
    load = load_of(
        settings,
        shape,
        hardware,
        prompt_tokens=prompt_tokens,
        has_reference=has_reference,
        reads_states=reads_states,
    )
    estimate = estimated(load)
    changes = () if estimate.peak.total <= hardware.usable else _changes(settings, load, hardware)
    return MemoryPlan(load, estimate, hardware, changes)


def load_of(
    settings: TrainConfig,
    shape: ModelShape,
    hardware: Hardware,
    *,
    prompt_tokens: int,
    has_reference: bool,
    reads_states: bool,
) -> Load:
    """Memory of a run on a device; for the arguments, see `memory_plan`."""
    trainer, peft, evaluation = settings.trainer, settings.peft, settings.evaluation
    extra: Mapping[str, Any] = trainer.model_extra or {}
    wide = 2 if settings.dtype == "bfloat16" else 4
    is_adapter = peft.r is not None
    trained_bytes = 4 if is_adapter else wide
    optim = str(extra.get("optim", "adamw_torch"))
    kept = next((count for part, count in _MOMENTS.items() if part in optim), 2 * trained_bytes)
    steps = trainer.steps_per_generation or trainer.gradient_accumulation_steps
    uses_vllm = bool(extra.get("use_vllm"))
    rows = evaluation.num_problems * evaluation.num_samples if evaluation.enabled else 0
    return Load(
        shape=shape,
        ranks=hardware.ranks,
        strategy=_strategy(extra, hardware.ranks),
        weight_bytes=wide if peft.bits is None else peft.bits / 8 * 1.05,  # scales, and what stays whole
        compute_bytes=4 if settings.dtype == "float32" else 2,
        trained=shape.adapter_parameters(peft.r) if peft.r is not None else shape.num_parameters,
        trained_bytes=trained_bytes,
        moments=kept / trained_bytes,
        has_reference=has_reference and not is_adapter,
        micro_batch=trainer.per_device_train_batch_size,
        accumulates=trainer.gradient_accumulation_steps > 1,
        rollout=0 if uses_vllm else trainer.per_device_train_batch_size * steps,
        evaluated=min(evaluation.batch_size, rows),
        prompt=prompt_tokens,
        completion=trainer.max_completion_length,
        is_checkpointed=bool(extra.get("activation_checkpointing", extra.get("gradient_checkpointing", True))),
        reads_states=reads_states,
        rank_of_adapter=peft.r or 0,
        masks_attention="flash" not in str((trainer.model_init_kwargs or {}).get("attn_implementation", "")),
        is_accelerated=hardware.is_accelerator,
        fixed=hardware.runtime,
        engine=_engine(extra, hardware) if uses_vllm else 0.0,
        engine_sleeps=bool(extra.get("vllm_enable_sleep_mode")),
    )


def _engine(extra: Mapping[str, Any], hardware: Hardware) -> float:
    """Memory that vLLM takes of each device."""
    if extra.get("vllm_mode", "colocate") == "server":
        return 0.0
    return float(extra.get("vllm_gpu_memory_utilization", 0.3)) * hardware.size


def _strategy(extra: Mapping[str, Any], ranks: int) -> Strategy:
    if ranks == 1:
        return "one process"
    if extra.get("fsdp"):
        return "FSDP"
    config = extra.get("deepspeed")
    if not config:
        return "DDP"
    if isinstance(config, str):
        try:
            config = json.loads(Path(config).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"trainer.deepspeed = {config} cannot be read: {error}") from error
    stage = config.get("zero_optimization", {}).get("stage", 0)
    return "ZeRO-3" if stage == 3 else "ZeRO-2" if stage in (1, 2) else "DDP"


def _changes(settings: TrainConfig, load: Load, hardware: Hardware) -> tuple[str, ...]:
    """The changes that save most, one after the other, until the run fits."""
    chosen: list[str] = []
    while estimated(load).peak.total > hardware.usable:
        options = list(_options(settings, load))
        if not options:
            return tuple(chosen) if chosen and estimated(load).peak.total <= hardware.usable else ()
        words, lighter = min(options, key=lambda option: estimated(option[1]).peak.total)
        if estimated(lighter).peak.total >= estimated(load).peak.total * 0.99:
            return ()
        chosen.append(words)
        load = lighter
    return tuple(chosen)


def _options(settings: TrainConfig, load: Load) -> Iterator[tuple[str, Load]]:
    """Changes of settings that keep the loss, or that a person may want, with the load that is left."""
    group, micro = settings.trainer.num_generations, load.micro_batch
    if not load.is_checkpointed:
        yield "trainer.activation_checkpointing = true", replace(load, is_checkpointed=True)
    if micro > group:
        smaller = replace(load, micro_batch=group, accumulates=True)
        yield f"trainer.per_device_train_batch_size = {group} with more gradient_accumulation_steps", smaller
    if load.rollout:
        yield "trainer.use_vllm = true", replace(load, rollout=0)
    if load.evaluated > 16:
        yield "evaluation.batch_size = 16", replace(load, evaluated=16)
    if load.engine and not load.engine_sleeps:
        yield "trainer.vllm_enable_sleep_mode = true", replace(load, engine_sleeps=True)
    if load.ranks > 1 and load.strategy in ("DDP", "ZeRO-2"):
        yield "trainer.fsdp = true", replace(load, strategy="FSDP")
    if load.compute_bytes == 4:
        yield "dtype = mixed", replace(load, compute_bytes=2)
    if not load.rank_of_adapter:
        adapter = {"trained": load.shape.adapter_parameters(16), "trained_bytes": 4, "rank_of_adapter": 16}
        lighter = replace(load, **adapter, has_reference=False, weight_bytes=2, compute_bytes=2, moments=2)
        yield "peft.r = 16 with dtype = bfloat16", lighter
    elif load.weight_bytes == 4:
        yield "dtype = bfloat16", replace(load, weight_bytes=2, compute_bytes=2)
    elif load.weight_bytes == 2:
        yield "peft.load_in_4bit = true", replace(load, weight_bytes=0.525)
    if load.completion > 512:
        half = load.completion // 2
        yield f"trainer.max_completion_length = {half}", replace(load, completion=half)
