"""From our settings to TRL's configuration, refusing what our objective replaces or cannot honour."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from pathlib import Path
from typing import Any

from relax_rl.config import TrainerConfig
from relax_rl.config.settings import Precision
from relax_rl.errors import ConfigError, DependencyError
from relax_rl.training.trl.replaced import CASTS_WEIGHTS, REPLACED, REPLACED_BY_RUN

__all__ = ["grpo_config"]


def grpo_config(
    trainer: TrainerConfig,
    output_dir: Path,
    *,
    seed: int = 0,
    precision: Precision = "float32",
    **forced: Any,
) -> Any:
    """TRL's configuration for a run, a `RelaxConfig`.

    Args:
        trainer: settings under TRL's own names.
        output_dir: folder of the checkpoints.
        seed: seed of initialisation, data order and sampling.
        precision: types in which the model is kept and computed.
        forced: GRPOConfig fields that the caller sets in any case.

    Raises:
        ConfigError: for a name that GRPOConfig does not have, an option our objective replaces, or values that TRL
            itself refuses.
    """
    from relax_rl.training.trl.relax_config import RelaxConfig

    settings = trainer.model_dump()
    known = {field.name for field in dataclasses.fields(RelaxConfig)}
    # Both names of one setting. transformers 5.23 has the new one and warns of the old one, which TRL still sets (to
    # true) by default; earlier ones have the old one alone.
    checkpoints = settings.pop("activation_checkpointing", settings.pop("gradient_checkpointing", True))
    _refuse(settings, known)
    _check_packages(settings)
    if "activation_checkpointing" in known:
        settings |= {"activation_checkpointing": checkpoints, "gradient_checkpointing": None}
    else:
        settings["gradient_checkpointing"] = checkpoints
    settings |= {
        "output_dir": str(output_dir),
        "seed": seed,
        "bf16": precision == "mixed",
        "save_strategy": "steps",
        "disable_tqdm": True,
        "logging_first_step": True,
        **forced,
    }
    if precision == "mixed" and settings.get("cache_implementation") == "static":
        raise ConfigError(
            "trainer.cache_implementation = static holds values of one precision, and dtype = mixed has two; set "
            "--trainer.cache_implementation dynamic, or another dtype."
        )
    try:
        return RelaxConfig(**settings)
    except ConfigError:
        raise
    except ImportError as error:
        # Its message may be the name of a package and a version, and more lines on how to install it.
        raise DependencyError(
            f"The settings under 'trainer' need a package that is not installed: {' '.join(str(error).split())}"
        ) from error
    except (ValueError, TypeError, OSError) as error:
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
        replacement = (REPLACED | REPLACED_BY_RUN).get(name)
        if replacement is not None:
            raise ConfigError(f"'trainer.{name}' has no effect here: {replacement.in_settings}.")
        if name == "use_transformers_continuous_batching" and value:
            raise ConfigError(f"'trainer.{name}' {CASTS_WEIGHTS} or 'trainer.use_vllm'.")
