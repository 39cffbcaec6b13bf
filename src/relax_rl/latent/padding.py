"""Rows padded on the left, for models that padding on the left would disturb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.latent.caches import CachePlan, reading_plan
from relax_rl.latent.sites import find_decoder, language_model_of

__all__ = ["padded_on_the_right", "right_padded"]


def padded_on_the_right(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a forward without a cache, with padding on the left moved to the right if it would disturb the model.

    Args:
        inputs: ``input_ids`` (B, L) and what else the model takes; a tensor of one entry a token is moved along.
    """
    mask = inputs.get("attention_mask")
    if mask is None or reading_plan(language_model_of(model).config).pads_texts:
        return dict(inputs)
    shift = _padding_before(mask)
    return {
        name: _rolled(value, shift) if isinstance(value, Tensor) and value.shape[:2] == mask.shape else value
        for name, value in inputs.items()
    }


@contextmanager
def right_padded(model: nn.Module, plan: CachePlan | None = None) -> Iterator[None]:
    """Inside, the decoder reads rows that are padded on the left as if they were padded on the right.

    Nothing that comes after a token can change its state, so that padding on the right is right for every causal model.
    Callers see no difference: the states of the final norm are at the places of their tokens. Those of single layers
    are not, and a forward with a cache is not meant to be in here.

    Args:
        plan: plan of the model, where it is known; a model that is right either way is left alone.
    """
    plan = plan or reading_plan(language_model_of(model).config)
    if plan.pads_prompts and plan.pads_texts:
        yield
        return
    shifts: list[Tensor | None] = []

    def move_left(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is None or (plan.pads_prompts and kwargs.get("position_ids") is not None):
            shifts.append(None)
            return args, kwargs
        shift = _padding_before(mask)
        shifts.append(shift)
        # Some families give their decoder the token ids by position.
        moved_args = tuple(_rolled(ids, shift) for ids in args[:1]) + args[1:]
        moved = {name: _rolled(kwargs[name], shift) for name in _BY_TOKEN & kwargs.keys() if kwargs[name] is not None}
        return moved_args, kwargs | moved

    def move_back(module: nn.Module, args: Any, output: Any) -> Any:
        shift = shifts.pop()
        if shift is not None:
            output.last_hidden_state = _rolled(output.last_hidden_state, -shift)
        return output

    decoder = find_decoder(model)
    handles = [
        decoder.register_forward_pre_hook(move_left, with_kwargs=True, prepend=True),
        # Before whatever else listens at the decoder.
        decoder.register_forward_hook(move_back, prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_BY_TOKEN = {"input_ids", "inputs_embeds", "attention_mask", "position_ids"}
"""Inputs of a decoder that have one entry a token: (B, L), or (B, L, H)."""


def _padding_before(mask: Tensor) -> Tensor:
    """(B, L) -> (B, 1): how many places stand before the first token of each row."""
    return (mask.cumsum(dim=1) == 0).sum(dim=1, keepdim=True)


def _rolled(values: Tensor, shift: Tensor) -> Tensor:
    """Each row of (B, L) or (B, L, H) moved to the left by its shift (B, 1), what falls off entering on the right."""
    length = values.shape[1]
    places = (torch.arange(length, device=values.device) + shift) % length
    return values.gather(1, places if values.ndim == 2 else places.unsqueeze(-1).expand(values.shape))
