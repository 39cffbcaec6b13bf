"""One look a prompt: the vision part of a model runs once for each prompt of a batch, and its rows share the features.

A group of G completions shows the same images G times. Their features are computed once and repeated, which is a copy;
the gradients of all rows come together in it, as they would in the weights of the vision part.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.images.look import Look, by_object
from relax_rl.latent.sites import language_model_of

__all__ = ["check_looks", "per_token", "placed", "shown"]

_FEATURES = "mm_encoder_outputs"
"""The argument by which transformers' image-text models take features in place of pixels."""
_FOR_POSITIONS = "image_grid_thw"
"""Rows and columns of images, which some families count in their positions, beside the vision part."""
_TYPES_OF_COMPLETIONS = {"paligemma": 1}
"""The token type of a completion, where it is not 0: PaliGemma reads type 0 in both directions."""


def check_looks(model: Any, name: str = "") -> None:
    """Refuse an image-text model that takes no features of images.

    Args:
        model: also one without weights.
        name: name of the model, for the sentence.

    Raises:
        ModelError: the model looks at images while it reads words (Mllama), or by a method of its own.
    """
    backbone = language_model_of(model).base_model
    takes = inspect.signature(backbone.forward).parameters
    if _FEATURES not in takes or not hasattr(backbone, "get_image_features"):
        kind = language_model_of(model).config.model_type
        raise ModelError(
            f"Models of type '{kind}' do not take the features of images apart from their words, so that prompts with "
            f"images are not supported for {name or 'this model'}; choose a model of another type, such as qwen2_5_vl "
            "or smolvlm, or a task without images."
        )


def per_token(model: Any, looks: Sequence[Look], mask: Tensor) -> dict[str, Tensor]:
    """Further entries (B, L) of each token of a batch, completions included.

    Args:
        looks: looks of the rows.
        mask: (B, L) attention, padded on the left of the prompts and on the right of the completions.
    """
    after = _TYPES_OF_COMPLETIONS.get(language_model_of(model).config.model_type, 0)
    starts = (mask.cumsum(dim=1) == 0).sum(dim=1).tolist()
    found: dict[str, Tensor] = {}
    for name in looks[0].per_token:
        rows = mask.new_full(mask.shape, after)
        for row, start, look in zip(rows, starts, looks, strict=True):
            entries = look.per_token[name]
            row[:start] = 0
            row[start : start + len(entries)] = entries.to(row)
        found[name] = rows
    return found


def placed(looks: Sequence[Look], device: torch.device) -> dict[str, Tensor]:
    """Image tensors that a model needs to count positions; empty for most families."""
    grids = [look.images[_FOR_POSITIONS] for look in looks if _FOR_POSITIONS in look.images]
    return {_FOR_POSITIONS: torch.cat(grids).to(device)} if grids else {}


@contextmanager
def shown(model: nn.Module, looks: Sequence[Look]) -> Iterator[None]:
    """Inside, a forward of the model sees the images of its rows; one that follows a filled cache sees them there.

    Args:
        model: before any distributed wrapper; possibly behind PEFT.
        looks: looks of the rows of each forward, in order. Those of one prompt are one object.

    Raises:
        ModelError: see `check_looks`; inside, a forward of another number of rows.
    """
    if not any(look.images for look in looks):
        yield
        return
    check_looks(model)
    backbone: Any = language_model_of(model).base_model
    accepted = set(inspect.signature(backbone.get_image_features).parameters)
    names = list(inspect.signature(backbone.forward).parameters)

    def give(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # Some families give their backbone its inputs by position.
        kwargs = dict(zip(names, args, strict=False)) | kwargs
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length():
            return (), kwargs
        ids = kwargs["input_ids"]
        if len(ids) != len(looks):
            raise ModelError(f"A forward of {len(ids)} rows was given the images of {len(looks)}; report this.")
        given: dict[str, Any] = dict(placed(looks, ids.device))
        mask = kwargs.get("attention_mask")
        # While it generates, the mask may be of four dimensions already, and the entries are there.
        if isinstance(mask, Tensor) and mask.shape == ids.shape:
            given |= per_token(model, looks, mask)
        given[_FEATURES] = {"image": _features(backbone, accepted, looks, ids.device)}
        return (), kwargs | given

    handle = backbone.register_forward_pre_hook(give, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _features(backbone: Any, accepted: set[str], looks: Sequence[Look], device: torch.device) -> Any:
    """The features of all rows' images, in order, from one pass of the vision part a look."""
    found: dict[int, Any] = {}
    for look in by_object(looks):
        if look.images:
            given = {name: _cast(tensor, backbone, device) for name, tensor in look.images.items() if name in accepted}
            found[id(look)] = backbone.get_image_features(**given, return_dict=True)
    outputs = [found[id(look)] for look in looks if look.images]
    joined = type(outputs[0])()
    # Llama 4 projects what its vision part saw only when it reads it.
    name = "last_hidden_state" if outputs[0].pooler_output is None else "pooler_output"
    joined[name] = _joined([output[name] for output in outputs])
    if layers := outputs[0].get("deepstack_features"):
        joined["deepstack_features"] = [
            _joined([output.deepstack_features[depth] for output in outputs]) for depth in range(len(layers))
        ]
    return joined


def _cast(tensor: Tensor, backbone: Any, device: torch.device) -> Tensor:
    # Llama 4's processor makes bfloat16 whatever the weights are.
    return tensor.to(device, backbone.dtype) if tensor.is_floating_point() else tensor.to(device)


def _joined(parts: Sequence[Any]) -> Any:
    """Features of images one after the other: one tensor, or one for each image."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [image for part in parts for image in part]
