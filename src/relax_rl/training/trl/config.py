"""From our settings to TRL's `GRPOConfig`, refusing what our objective replaces or cannot honour."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from pathlib import Path
from typing import Any

from packaging.version import Version

from relax_rl.config import TrainerConfig
from relax_rl.config.settings import Precision
from relax_rl.errors import ConfigError, DependencyError

__all__ = ["TESTED_TRL", "check_trl_version", "grpo_config"]

TESTED_TRL = ("1.16", "1.17")
"""The adapter rests on details of TRL; it was tested from the first version up to, not including, the second."""

_REPLACED = {
    "loss_type": "set objective.name instead",
    "beta": "set objective.beta instead",
    "epsilon": "set objective.clip_low instead",
    "epsilon_high": "set objective.clip_high instead",
    "delta": "no method here clips twice; leave it out",
    "importance_sampling_level": "the objective decides it; leave it out",
    "scale_rewards": "the objective decides how rewards become advantages; leave it out",
    "multi_objective_aggregation": "rewards are summed, then normalised by the objective; leave it out",
    "top_entropy_quantile": "the objective decides which tokens count; leave it out",
    "entropy_coef": "the objective decides whether there is an entropy bonus; leave it out",
    "use_adaptive_entropy": "the objective decides whether there is an entropy bonus; leave it out",
    "off_policy_mask_threshold": "no method here masks off-policy completions; leave it out",
    "use_bias_correction_kl": "set objective.kl_estimator instead",
    "router_aux_loss_coef": "our loss does not carry a router loss; leave it out and train a dense model",
    "use_liger_kernel": "a fused loss hides the hidden states; leave it out",
    "log_completions": "completions are written to the run directory at every rollout; leave it out",
    "disable_tqdm": "the run shows its own progress; leave it out",
    "sapo_temperature_neg": "it belongs to a loss of TRL that the objective replaces; leave it out",
    "sapo_temperature_pos": "it belongs to a loss of TRL that the objective replaces; leave it out",
}


def check_trl_version() -> None:
    """Refuse a TRL that was not tested.

    Raises:
        DependencyError: outside the tested range.
    """
    import trl

    low, high = TESTED_TRL
    if not Version(low) <= Version(trl.__version__) < Version(high):
        raise DependencyError(
            f"TRL {trl.__version__} was not tested with this version of relax-rl; install trl>={low},<{high}."
        )


def grpo_config(
    trainer: TrainerConfig,
    output_dir: Path,
    *,
    beta: float = 0.0,
    seed: int = 0,
    precision: Precision = "float32",
    **forced: Any,
) -> Any:
    """TRL's configuration for a run.

    Args:
        trainer: settings under TRL's own names.
        output_dir: where checkpoints go.
        beta: not 0 where TRL must keep a reference model; `Objective.reference_coefficient`.
        seed: of initialisation, data order and sampling.
        precision: what the model is kept in and computed in.
        forced: GRPOConfig fields that the caller sets in any case.

    Raises:
        ConfigError: for a name that GRPOConfig does not have, an option our objective replaces, or values that TRL
            itself refuses.
    """
    from trl.trainer.grpo_config import GRPOConfig

    settings = trainer.model_dump()
    _refuse(settings, {field.name for field in dataclasses.fields(GRPOConfig)})
    _check_packages(settings)
    # transformers has a new name for it and warns of the old one, which TRL still sets (to true) by default.
    settings.setdefault("activation_checkpointing", settings.get("gradient_checkpointing", True))
    settings |= {
        "output_dir": str(output_dir),
        "seed": seed,
        "bf16": precision == "mixed",
        "beta": beta,
        "loss_type": "grpo",
        "save_strategy": "steps",
        "disable_tqdm": True,
        "logging_first_step": True,
        "gradient_checkpointing": None,
        **forced,
    }
    if precision == "mixed" and settings.get("cache_implementation") == "static":
        raise ConfigError(
            "trainer.cache_implementation = static holds values of one precision, and dtype = mixed has two; set "
            "--trainer.cache_implementation dynamic, or another dtype."
        )
    try:
        return GRPOConfig(**settings)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"TRL refuses the settings under 'trainer': {str(error).strip()}") from error


def _check_packages(settings: dict[str, Any]) -> None:
    """A package that was asked for and is not installed is found before a model is loaded."""
    if settings.get("use_vllm") and importlib.util.find_spec("vllm") is None:
        raise DependencyError(
            "trainer.use_vllm needs the package of vLLM, which is not installed; pip install vllm, or leave it out."
        )
    report_to = settings["report_to"]
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if name not in ("none", "all") and importlib.util.find_spec(name) is None:
            raise DependencyError(
                f"trainer.report_to names {name!r}, but no package of that name is installed; install it, or choose "
                "none, tensorboard, wandb or trackio."
            )


def _refuse(settings: dict[str, Any], known: set[str]) -> None:
    for name, value in settings.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean 'trainer.{close[0]}'?" if close else "see TRL's GRPOConfig for the names."
            raise ConfigError(f"'trainer.{name}' is not a setting of TRL's GRPOConfig; {hint}")
        if name in _REPLACED or name.startswith("vespo_"):
            mend = _REPLACED.get(name, "it belongs to a loss of TRL that the objective replaces; leave it out")
            raise ConfigError(f"'trainer.{name}' has no effect here: {mend}.")
        if name == "use_transformers_continuous_batching" and value:
            raise ConfigError(
                "'trainer.use_transformers_continuous_batching' casts the trained weights for good; use plain "
                "generation or 'trainer.use_vllm'."
            )
