"""How a run loads its policy and gives it an adapter: the settings under ``peft`` and ``trainer.model_init_kwargs``."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

from relax_rl.config import PeftConfig, TrainConfig
from relax_rl.errors import ConfigError, DependencyError
from relax_rl.latent.contract.adapter import read_adapter
from relax_rl.latent.contract.files import model_location
from relax_rl.latent.sites import language_model_of
from relax_rl.training.parts import excluded_from_adapter

__all__ = [
    "check_adapter",
    "check_bits",
    "check_packages",
    "check_tied",
    "load_options",
    "lora_config",
    "reference_options",
    "saved_parameters",
]

_LOADABLE = ("attn_implementation", "experts_implementation", "use_kernels", "use_safetensors")
"""Options of `from_pretrained` that change how the model is computed or read, and not which model it is."""
_SET_ELSEWHERE = {
    "dtype": "use 'dtype'",
    "torch_dtype": "use 'dtype'",
    "revision": "use 'model_revision'",
    "quantization_config": "use 'peft.load_in_4bit' or 'peft.load_in_8bit'",
    "device_map": "a run places its model itself; leave it out",
}


def check_packages(settings: PeftConfig) -> None:
    """Refuse an adapter or quantised weights for which a package is missing, before anything is loaded.

    Raises:
        DependencyError: naming the extra to install.
    """
    for package, extra, is_needed in (
        ("peft", "peft", settings.r is not None),
        ("bitsandbytes", "qlora", settings.bits is not None),
    ):
        if is_needed and importlib.util.find_spec(package) is None:
            setting = "peft.r" if package == "peft" else f"peft.load_in_{settings.bits}bit"
            raise DependencyError(
                f"{setting} needs the package {package}, which is not installed; pip install 'relax-rl[{extra}]', or "
                "leave it out."
            )


def check_adapter(settings: TrainConfig) -> None:
    """Refuse a new adapter for a model that is one already.

    Raises:
        ConfigError: the model that the settings name is an adapter.
    """
    if settings.peft.r is not None and read_adapter(model_location(settings.model), settings.model_revision):
        raise ConfigError(
            f"{settings.model} is an adapter already, which training continues as it is; leave peft out, or train a "
            f"new one on the merged model: relax merge {settings.model} DIR, then --model DIR."
        )


def check_bits(settings: PeftConfig, *, on_cpu: bool) -> None:
    """Refuse weights of 4 bits on the CPU.

    There bitsandbytes (0.50) packs them for inference once the policy samples, and no gradient passes the packed ones:
    the gradient of an adapter was off by 100 %.

    Raises:
        ConfigError: naming what works.
    """
    if on_cpu and settings.load_in_4bit:
        raise ConfigError(
            "peft.load_in_4bit would learn from wrong gradients on the CPU, where bitsandbytes packs the weights for "
            "inference alone; use an accelerator, or peft.load_in_8bit."
        )


def check_tied(settings: PeftConfig, model: Any) -> None:
    """Refuse to train a copy of one of two modules that share a weight: a merged model could keep one of them alone.

    Raises:
        ConfigError: ``modules_to_save`` names the embedding or the head, and they share their weight.
    """
    tied = {name.split(".")[-2] for pair in (model.all_tied_weights_keys or {}).items() for name in pair}
    named = [name for name in settings.modules_to_save or () if name.rpartition(".")[2] in tied]
    if named:
        raise ConfigError(
            f"peft.modules_to_save names {named[0]!r}, whose weight this model shares between embedding and head; "
            "leave it out."
        )


def load_options(settings: TrainConfig) -> dict[str, Any]:
    """Arguments of the policy's `from_pretrained`: ``trainer.model_init_kwargs``, and the quantisation of QLoRA.

    Raises:
        ConfigError: an option that has a place elsewhere, or that would make another model of it.
    """
    given = settings.trainer.model_init_kwargs or {}
    for name in given:
        if name not in _LOADABLE:
            advice = _SET_ELSEWHERE.get(name, f"there are: {', '.join(_LOADABLE)}")
            raise ConfigError(f"'trainer.model_init_kwargs.{name}' is not set there; {advice}.")
    bits = settings.peft.bits
    return {**given} if bits is None else {**given, "quantization_config": _quantization(bits, settings.dtype)}


def reference_options(settings: TrainConfig, reference_coefficient: float) -> dict[str, Any] | None:
    """Arguments of the reference policy's `from_pretrained`, so that it is the one that training starts from.

    Args:
        reference_coefficient: reference coefficient of the objective, see `Objective.reference_coefficient`.

    Returns:
        None where TRL loads no reference: then it would warn of options that nothing reads.
    """
    if not reference_coefficient or settings.peft.r is not None:
        return None
    revision = {} if settings.model_revision is None else {"revision": settings.model_revision}
    return {**load_options(settings), **revision} or None


def _quantization(bits: int, precision: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if precision == "float32" else torch.bfloat16,
    )


def lora_config(
    settings: PeftConfig, revision: str | None = None, model: Any = None, frozen: Collection[str] = ()
) -> Any:
    """The configuration of the adapter to train, a `peft.LoraConfig`; None without one.

    Args:
        revision: revision of the model, kept in the adapter's folder.
        model: model that the adapter is for.
        frozen: parts of it without an adapter (`relax_rl.training.parts`).
    """
    if settings.r is None:
        return None
    from peft import LoraConfig

    options = settings.model_dump(exclude={"load_in_4bit", "load_in_8bit"})
    options["exclude_modules"] = excluded_from_adapter(settings, model, frozen)
    return LoraConfig(task_type="CAUSAL_LM", revision=revision, **options)


def saved_parameters(model: Any) -> list[Any]:
    """The parameters that a checkpoint holds: of a model with an adapter, those of the adapter alone."""
    is_adapted = language_model_of(model) is not model
    return [parameter for parameter in model.parameters() if parameter.requires_grad or not is_adapted]
