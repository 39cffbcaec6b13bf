"""How a policy is trained. The only door to TRL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.training.bank import Trace, read_bank
    from relax_rl.training.entropy_forecast import EntropyForecast
    from relax_rl.training.measurement import PolicyEvaluation
    from relax_rl.training.models import load_model, load_processor, load_tokenizer, model_config
    from relax_rl.training.notices import Notices
    from relax_rl.training.objective import objective_for
    from relax_rl.training.objective_state import restore_objective, save_objective
    from relax_rl.training.trl.branching import Branching
    from relax_rl.training.trl.group_sampler import GroupSampler
    from relax_rl.training.trl.recorder import RolloutRecorder
    from relax_rl.training.trl.relax_config import RelaxConfig
    from relax_rl.training.trl.trainer import RelaxTrainer

__all__ = [
    "Branching",
    "EntropyForecast",
    "GroupSampler",
    "Notices",
    "PolicyEvaluation",
    "RelaxConfig",
    "RelaxTrainer",
    "RolloutRecorder",
    "Trace",
    "load_model",
    "load_processor",
    "load_tokenizer",
    "model_config",
    "objective_for",
    "read_bank",
    "restore_objective",
    "save_objective",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bank": ("Trace", "read_bank"),
        "entropy_forecast": ("EntropyForecast",),
        "measurement": ("PolicyEvaluation",),
        "models": ("load_model", "load_processor", "load_tokenizer", "model_config"),
        "notices": ("Notices",),
        "objective": ("objective_for",),
        "objective_state": ("restore_objective", "save_objective"),
        "trl.branching": ("Branching",),
        "trl.group_sampler": ("GroupSampler",),
        "trl.recorder": ("RolloutRecorder",),
        "trl.relax_config": ("RelaxConfig",),
        "trl.trainer": ("RelaxTrainer",),
    },
)
