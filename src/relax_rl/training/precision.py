"""Types of a run's weights and of its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from relax_rl.config.settings import Precision

__all__ = ["computing_in", "weight_dtype"]


def weight_dtype(precision: Precision) -> Literal["float32", "bfloat16"]:
    """Type of the weights."""
    return "bfloat16" if precision == "bfloat16" else "float32"


@contextmanager
def computing_in(precision: Precision, model: nn.Module) -> Iterator[None]:
    """The model's forward as training runs it, for use outside of the trainer.

    Only the forward, as Accelerate does it: what is computed from its output keeps full precision.
    """
    if precision != "mixed":
        yield
        return
    plain, had_own = model.forward, "forward" in vars(model)
    device = next(model.parameters()).device.type
    model.forward = torch.autocast(device, torch.bfloat16)(plain)
    try:
        yield
    finally:
        if had_own:
            model.forward = plain
        else:
            del model.forward
