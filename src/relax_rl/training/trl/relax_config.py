"""TRL's configuration for a trainer whose loss is an objective: whatever would be ignored is refused."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

from trl.trainer.grpo_config import GRPOConfig

from relax_rl.errors import ConfigError
from relax_rl.training.trl.minors import check_trains_on, check_trl_version
from relax_rl.training.trl.replaced import CASTS_WEIGHTS, REPLACED
from relax_rl.training.trl.strategy import join_processes

__all__ = ["RelaxConfig", "arguments_for", "check_reference", "given_arguments"]


@dataclass
class RelaxConfig(GRPOConfig):
    """`trl.GRPOConfig` for `RelaxTrainer`: every field is TRL's, and every default but that of `disable_dropout`.

    A field that the objective replaces (`loss_type`, `beta`, `epsilon`, `scale_rewards`, ...) keeps its default: the
    method and its settings are arguments of `RelaxTrainer`, `objective` and `objective_options`. An update of a process
    holds whole groups. So does a micro-batch, unless `per_device_train_batch_size` is no multiple of `num_generations`:
    then each update takes two passes.

    Raises:
        ConfigError: for a field that would have no effect, naming the setting to use, and for batches that would break
            groups apart or make an update straddle two rollout batches.
        ValueError: for values that TRL itself refuses.
        DependencyError: for a TRL that was not tested, or cannot train on this device.
    """

    disable_dropout: bool = dataclasses.field(
        default=True, metadata={"help": "Train without dropout: the policy that learns is the one that sampled."}
    )

    def __post_init__(self) -> None:
        check_trl_version()
        # Before TRL's own checks: these fill fields in, and would speak first of a batch that breaks groups.
        self._refuse_what_is_replaced()
        self._check_whole_groups()
        join_processes(self)
        super().__post_init__()
        check_trains_on(self.device.type)
        window = self.gradient_accumulation_steps
        if (self.steps_per_generation or window) % window:
            raise ConfigError(
                f"steps_per_generation = {self.steps_per_generation} is not a multiple of "
                f"gradient_accumulation_steps = {window}; use one batch of rollouts."
            )

    def _refuse_what_is_replaced(self) -> None:
        for field in dataclasses.fields(GRPOConfig):
            replacement = REPLACED.get(field.name)
            if replacement is not None and getattr(self, field.name) != field.default:
                raise ConfigError(f"'{field.name}' has no effect in RelaxConfig: {replacement.in_script}.")
        if self.use_transformers_continuous_batching:
            raise ConfigError(f"'use_transformers_continuous_batching' {CASTS_WEIGHTS} or 'use_vllm'.")
        if self.fsdp_config and not self.fsdp:
            raise ConfigError("'fsdp_config' has no effect without 'fsdp'; set fsdp = true, or leave fsdp_config out.")

    def _check_whole_groups(self) -> None:
        micro, group = self.per_device_train_batch_size, self.num_generations or 1
        if micro % group == 0 or micro * self.gradient_accumulation_steps % group == 0:
            return
        below, above = micro // group * group, -(-micro // group) * group
        advice = f"use {below} or {above}" if below else f"use {above}"
        raise ConfigError(
            f"per_device_train_batch_size = {micro} is not a multiple of num_generations = {group}, and an update of "
            f"one process must hold whole groups; {advice}."
        )


def arguments_for(args: RelaxConfig, reference_coefficient: float, *, evaluates: bool) -> RelaxConfig:
    """A copy of a configuration, in which TRL keeps a reference model exactly where the objective needs one.

    Args:
        args: as it was given; it is left as it is.
        reference_coefficient: `Objective.reference_coefficient`.
        evaluates: whether there is an evaluation set, whose batches must hold whole groups, too.

    Raises:
        ConfigError: for an evaluation batch of broken groups.
    """
    group = args.num_generations_eval or args.num_generations or 1
    if evaluates and args.per_device_eval_batch_size % group:
        raise ConfigError(
            f"per_device_eval_batch_size = {args.per_device_eval_batch_size} is not a multiple of the {group} "
            f"completions of a prompt, and a batch must hold whole groups; use {group}."
        )
    own = copy.copy(args)
    # TRL reads beta to decide about the reference model, and loss_type only for the loss that is dropped.
    own.beta, own.loss_type = reference_coefficient, "grpo"
    # A router's loss would be dropped with it, and TRL can compute it for some configurations of experts only.
    own.router_aux_loss_coef = 0.0
    return own


def given_arguments(args: Any, model: Any) -> RelaxConfig:
    """The configuration that was given; TRL's defaults, in a folder named after the model, when None.

    Raises:
        ConfigError: for a configuration that is not a `RelaxConfig`.
    """
    if args is None:
        name = model if isinstance(model, str) else str(model.config._name_or_path)
        return RelaxConfig(f"{name.rstrip('/').split('/')[-1] or 'policy'}-relax")
    if not isinstance(args, RelaxConfig):
        raise ConfigError(
            f"args is a {type(args).__name__}, whose loss settings RelaxTrainer would ignore; use "
            "relax_rl.RelaxConfig, which has the same fields and refuses those."
        )
    return args


def check_reference(model: Any) -> None:
    """Refuse a model for which TRL would find no reference: it loads one from where the policy came from.

    Raises:
        ConfigError: for a model in memory that came from nowhere.
    """
    if not isinstance(model, str) and not model.config._name_or_path:
        raise ConfigError(
            "The objective pulls towards a reference model, which TRL loads from where the policy came from, and this "
            "model was made in memory; save it and load it again, or set beta = 0 in objective_options."
        )
