"""The parts of an image-text model that learn: the setting ``freeze``, for all weights and for an adapter."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from torch import nn

from relax_rl.config import PeftConfig
from relax_rl.errors import ConfigError
from relax_rl.latent.contract.architecture import reads_images
from relax_rl.latent.images.parts import part_of
from relax_rl.latent.sites import language_model_of

__all__ = ["check_frozen", "check_has_parts", "excluded_from_adapter", "freeze"]


def check_has_parts(config: Any, frozen: Collection[str], name: str) -> None:
    """Refuse to freeze parts of a model that has none, by its configuration alone.

    Raises:
        ConfigError: the model reads text only.
    """
    if frozen and not reads_images(config):
        raise ConfigError(
            f"freeze names {', '.join(frozen)}, but {name} reads text only and has no such parts; leave freeze out."
        )


def freeze(model: Any, frozen: Collection[str]) -> None:
    """Have the parameters of these parts not learn. Those of an adapter in them do not learn either.

    Raises:
        ConfigError: the model reads text only, or has no parameter of a part.
    """
    if not frozen:
        return
    own = language_model_of(model)
    check_has_parts(own.config, frozen, "this model")
    parts = part_of(own)
    absent = next((part for part in frozen if part not in parts.values()), None)
    if absent is not None:
        raise ConfigError(f"freeze names {absent}, of which this model has no weights; leave it out.")
    for name, parameter in own.named_parameters():
        if parts[name] in frozen:
            parameter.requires_grad_(False)


def check_frozen(model: Any, frozen: Collection[str]) -> None:
    """Refuse a model in which something learns that must not: a copy that ``peft.modules_to_save`` made.

    Raises:
        ConfigError: naming it; or nothing learns at all.
    """
    if not frozen:
        return
    own = language_model_of(model)
    parts, learning = part_of(own), [name for name, value in own.named_parameters() if value.requires_grad]
    if not learning:
        raise ConfigError("Nothing of the model would learn: freeze leaves no part that the adapter is on; change one.")
    wrong = next((name for name in learning if parts[name] in frozen), None)
    if wrong is not None:
        raise ConfigError(
            f"freeze names {parts[wrong]}, but peft.modules_to_save makes {wrong} learn, which is a weight of it; "
            "leave one of them out."
        )


def excluded_from_adapter(settings: PeftConfig, model: Any, frozen: Collection[str]) -> str | list[str] | None:
    """``exclude_modules`` of the adapter: what the settings exclude, and what belongs to a frozen part.

    Returns:
        As in ``peft.LoraConfig``: names, or a regular expression of whole names.
    """
    given = settings.exclude_modules
    if not frozen:
        return given
    inside = "|".join(re.escape(name) for name in _subtrees(model, frozen))
    patterns = [rf"(?:{inside})(?:\..*)?"]
    if isinstance(given, str):
        patterns.append(f"(?:{given})")
    elif given:
        # As peft reads a list: whole names, or their ends.
        patterns.append(rf"(?:.*\.)?(?:{'|'.join(re.escape(name) for name in given)})")
    return "|".join(patterns)


def _subtrees(model: Any, frozen: Collection[str]) -> list[str]:
    """Names of the largest modules all of whose parameters belong to frozen parts."""
    parts = part_of(model)
    found: list[str] = []

    def visit(name: str, module: nn.Module) -> None:
        prefix = f"{name}." if name else ""
        inside = {part for key, part in parts.items() if key.startswith(prefix)}
        if inside and inside <= set(frozen):
            found.append(name)
        elif inside & set(frozen):
            for child, below in module.named_children():
                visit(f"{prefix}{child}", below)

    visit("", language_model_of(model))
    return found
