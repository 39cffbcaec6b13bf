"""The first layer whose output in a forward pass is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["first_nonfinite_layer"]

_MAX_TRIES = 64
"""Sequences that are looked at, at most: on the CPU each is a forward pass of its own."""


@torch.no_grad()
def first_nonfinite_layer(model: nn.Module, sequences: Sequence[Sequence[int]]) -> str | None:
    """The name of the module whose output is the first that is not finite; None where all outputs are.

    For a failure that has happened: it runs the model once for each of the first sequences until one shows it.

    Args:
        model: a causal language model; it is left in the mode it was in.
        sequences: token ids, without padding.
    """
    found: list[str] = []

    def hook(name: str) -> Any:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            is_bad = isinstance(first, Tensor) and first.is_floating_point() and not bool(first.isfinite().all())
            if is_bad and not found:
                found.append(name)

        return look

    device = next(model.parameters()).device
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(hook(name)).remove)
        for ids in list(dict.fromkeys(tuple(sequence) for sequence in sequences))[:_MAX_TRIES]:
            try:
                model(input_ids=torch.tensor([ids], device=device))
            except RuntimeError:
                # After a failed assertion on a GPU nothing runs any more. What was found before stays.
                return found[0] if found else None
            if found:
                return found[0]
    return None
