"""Dropout: noise in the training forward that the policy that sampled did not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

__all__ = ["dropout_rates", "without_dropout"]

_RATE = re.compile(r"drop")
_ADAPTER = "lora_dropout"
"""PEFT's own, which the adapter's configuration asks for."""


def dropout_rates(model: nn.Module) -> dict[str, float]:
    """Rates above zero, by the names that the model's modules give them; empty for a model without dropout."""
    return dict(sorted((name, rate) for _, name, rate, _ in _places(model)))


def without_dropout(model: nn.Module) -> dict[str, float]:
    """Set every rate of dropout to zero, in place; the configuration stays, so a saved model keeps its own.

    Some models have modules for it (GPT-2), some call the function with a rate that a module holds (OPT), and some skip
    whole layers (``layerdrop``).

    Returns:
        The rates as they were.
    """
    found = list(_places(model))
    for module, _, rate, attribute in found:
        setattr(module, attribute, type(rate)(0))
    return dict(sorted((name, rate) for _, name, rate, _ in found))


def _places(model: nn.Module) -> Iterator[tuple[Any, str, float, str]]:
    """(module, name for people, rate, attribute) of each rate above zero."""
    for path, module in model.named_modules():
        if _ADAPTER in path.split("."):
            continue
        if isinstance(module, nn.modules.dropout._DropoutNd):
            if module.p > 0:
                yield module, path.rpartition(".")[2], module.p, "p"
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, float) and value > 0 and _RATE.search(attribute):
                yield module, attribute, value, attribute
