"""An adapter (LoRA and kin): a few weights that are added to another model's."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from relax_rl.errors import DependencyError, ModelError
from relax_rl.latent.contract.files import find_file, first_line, read_json

__all__ = ["Adapter", "read_adapter", "with_adapter"]


@dataclass(frozen=True)
class Adapter:
    """Contents of an adapter's configuration.

    Attributes:
        base: name or folder of the model that it is added to.
        revision: revision of that model on the Hub.
        kind: such as "LORA".
    """

    base: str
    revision: str | None
    kind: str


def read_adapter(location: str, revision: str | None = None) -> Adapter | None:
    """The adapter at a place; None where a whole model is there.

    Raises:
        ModelError: an adapter that does not name its base.
        DependencyError: the package peft is not installed.
    """
    if find_file(location, "config.json", revision) is not None:
        return None
    held = read_json(location, "adapter_config.json", revision)
    if held is None:
        return None
    base = held.get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"{location} holds an adapter whose adapter_config.json names no base model; set "
            "base_model_name_or_path there."
        )
    if importlib.util.find_spec("peft") is None:
        raise DependencyError(f"{location} holds an adapter of {base}, which needs the package peft; pip install peft.")
    return Adapter(str(base), held.get("revision"), str(held.get("peft_type", "adapter")))


def with_adapter(model: Any, location: str, revision: str | None, *, is_trainable: bool) -> Any:
    """The base model with its adapter: merged into its weights, or beside them and trainable.

    Raises:
        ModelError: an adapter that does not fit the base.
    """
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, location, revision=revision, is_trainable=is_trainable)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"The adapter in {location} does not fit its base model: {first_line(error)}") from error
    return adapted if is_trainable else adapted.merge_and_unload()
