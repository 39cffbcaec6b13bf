"""The memory of a run: of one that is built here, or of one for other hardware, of which only the settings are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.config import BatchPlan, TrainConfig, TrainerConfig, batch_arithmetic, load_config
from relax_rl.errors import ConfigError
from relax_rl.workflows.memory.hardware import Hardware, hardware_here, parse_hardware
from relax_rl.workflows.memory.plan import MemoryPlan, memory_plan
from relax_rl.workflows.memory.shape import shape_of

if TYPE_CHECKING:
    from relax_rl.objectives import Objective
    from relax_rl.workflows.training_run import TrainingRun

__all__ = ["Elsewhere", "memory_of", "plan_for"]

_PROMPT = 512
"""Tokens of a prompt that nobody has read."""
_ELSEWHERE = ("use_vllm", "fsdp", "fsdp_config", "deepspeed", "optim", "push_to_hub", "hub_model_id")
"""Settings of `trainer` that need packages, devices or the Hub, which the machine that trains has."""


@dataclass(frozen=True)
class Elsewhere:
    """A run on other hardware, as far as its settings and its model's configuration tell.

    Attributes:
        settings: resolved.
        plan: sizes of the batches there.
        memory: memory of each device there.
    """

    settings: TrainConfig
    plan: BatchPlan
    memory: MemoryPlan


def memory_of(run: TrainingRun) -> MemoryPlan | None:
    """The memory of a run on this machine; None for a model whose sizes are not those of a plain decoder."""
    from relax_rl.evaluation.prompts import PromptForm, encode_prompt
    from relax_rl.latent.sites import language_model_of

    trainer, settings = run.trainer, run.settings
    form = PromptForm(settings.prompts.plain, settings.trainer.chat_template_kwargs or {})
    longest = max(run.training.problems, key=lambda problem: len(problem.question))
    # The layers that an adapter wraps are not the model's own, so the sizes are read off its configuration.
    return _memory(
        settings,
        language_model_of(trainer.model).config,
        hardware_here(trainer.args.world_size),
        trainer.objective,
        len(encode_prompt(run.tokenizer, longest, form)),
    )


def plan_for(
    config: str | Path | None,
    hardware: str,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    allow_code: Collection[str] = (),
) -> Elsewhere:
    """A run on other hardware. Neither weights nor data are read, and packages that only it needs may be missing.

    Args:
        config, overrides, allow_code: as for `relax_rl.workflows.train.prepare`.
        hardware: such as ``24GB``, ``8x80GB``, or ``2x8x80GB``.

    Raises:
        RelaxError: settings that do not fit together, or a model whose configuration cannot be read.
    """
    devices = parse_hardware(hardware)
    settings = load_config(config, overrides, allow_code=allow_code)
    plan = batch_arithmetic(settings, devices.ranks)

    from relax_rl.training.adapters import load_options
    from relax_rl.training.models import model_config
    from relax_rl.workflows.recipe import build_recipe
    from relax_rl.workflows.train import task_and_rewards

    asked: dict[str, Any] = settings.trainer.model_dump() | {"report_to": "none"}
    trainer = TrainerConfig(**{key: value for key, value in asked.items() if key not in _ELSEWHERE})
    recipe = build_recipe(settings.model_copy(update={"trainer": trainer}), settings.output_path, on_cpu=True)
    task_and_rewards(settings)
    load_options(settings)
    model = model_config(settings.model, settings.model_revision)
    context = getattr(model.get_text_config(), "max_position_embeddings", None) or 10**9
    prompt = max(1, min(_PROMPT, context - settings.trainer.max_completion_length))
    memory = _memory(settings, model, devices, recipe.objective, prompt)
    if memory is None:
        raise ConfigError(f"the memory of {settings.model} cannot be estimated: its sizes are not a plain decoder's")
    return Elsewhere(settings, plan, memory)


def _memory(
    settings: TrainConfig, config: Any, hardware: Hardware, objective: Objective, prompt_tokens: int
) -> MemoryPlan | None:
    import torch

    from relax_rl.latent.contract.contract import model_class_of
    from relax_rl.objectives.inputs import HIDDEN_STATES
    from relax_rl.remote_code import remote_code

    with torch.device("meta"):
        model = model_class_of(config).from_config(config, **remote_code())
    try:
        shape = shape_of(model)
    except AttributeError:
        return None
    return memory_plan(
        settings,
        shape,
        hardware,
        prompt_tokens=prompt_tokens,
        has_reference=bool(objective.reference_coefficient),
        reads_states=HIDDEN_STATES in objective.inputs,
    )
