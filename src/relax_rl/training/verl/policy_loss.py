"""The settings of verl's actor that name our method, and the refusal to train by them without our engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relax_rl.training.verl.version import check_version

check_version()

from verl.trainer.ppo.core_algos import register_policy_loss  # noqa: E402
from verl.workers.config import PolicyLossConfig  # noqa: E402

from relax_rl.errors import ConfigError  # noqa: E402

__all__ = ["LOSS_MODE", "RelaxPolicyLossConfig"]

LOSS_MODE = "relax_rl"


@dataclass
class RelaxPolicyLossConfig(PolicyLossConfig):
    """``actor_rollout_ref.actor.policy_loss`` for a method of `relax_rl.objectives`.

    Attributes:
        loss_mode: a name that verl knows no loss by, so that the stock engine cannot train by this configuration.
        objective: the method's name, or ``package.module:function``.
        options: its settings that differ from the defaults; those of the fit of the dictionary under ``dictionary``.
        max_completion_length: ``data.max_response_length``, for methods that depend on it.
        updates: optimiser updates of the whole run, for schedules; None where there are none.
    """

    loss_mode: str = LOSS_MODE
    objective: str = "relax"
    options: dict[str, Any] = field(default_factory=dict)
    max_completion_length: int | None = None
    updates: int | None = None


@register_policy_loss(LOSS_MODE)
def _without_our_engine(*args: Any, **kwargs: Any) -> Any:
    raise ConfigError(
        "The actor's policy loss is a method of relax_rl, but verl's own engine trains the actor, which has no hidden "
        "states for it; set actor_rollout_ref.model.external_lib=relax_rl.training.verl.plugin and "
        "actor_rollout_ref.actor.strategy=fsdp2."
    )
