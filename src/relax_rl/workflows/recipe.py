"""How a run trains: what its settings alone decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from relax_rl.config import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import Objective
from relax_rl.remote_code import remote_code
from relax_rl.training.adapters import reference_options
from relax_rl.training.objective import build_objective_from
from relax_rl.training.trl.branching import Branching, branching_from
from relax_rl.training.trl.config import grpo_config
from relax_rl.training.trl.group_sampler import GroupSampler, group_sampler

__all__ = ["Recipe", "build_recipe"]


@dataclass(frozen=True)
class Recipe:
    """How a run trains: what its settings alone decide, without data and without a model.

    Attributes:
        objective: the method.
        branching: how groups are made of trunks and branches; None samples all completions apart.
        group_sampler: samples in place of TRL; None leaves it to TRL.
        args: TRL's configuration.
    """

    objective: Objective
    branching: Branching | None
    group_sampler: GroupSampler | None
    args: Any


def build_recipe(
    settings: TrainConfig, output_dir: Path, objective: Objective | None = None, *, on_cpu: bool = False
) -> Recipe:
    """Decisions of the settings without data and without a model.

    Args:
        output_dir: folder of the checkpoints.
        objective: in place of the method that the settings name.
        on_cpu: as for `build_run`.

    Raises:
        ConfigError: a method, or a setting of it or of TRL, that does not exist or does not fit.
        DependencyError: a package that the settings ask for is not installed.
    """
    trainer = settings.trainer
    built = build_objective_from(settings, objective)
    branching = branching_from(settings.sampling, trainer.num_generations, trainer.max_completion_length)
    if branching is not None and (trainer.model_extra or {}).get("use_vllm"):
        raise ConfigError("sampling.trunks needs generation by transformers; leave trainer.use_vllm out.")
    forced = {"use_cpu": True} if on_cpu or not torch.cuda.is_available() else {}
    args = grpo_config(
        trainer,
        output_dir,
        seed=settings.seed,
        precision=settings.dtype,
        **forced,
        **({"use_vllm": False} if on_cpu else {}),
        **remote_code(),  # the reference policy may be loaded by name
    )
    args.model_init_kwargs = reference_options(settings, built.reference_coefficient)
    return Recipe(built, branching, group_sampler(args, settings.sampling.engine), args)
