"""The parts of an image-text model: what sees, what carries it over, and what reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

from torch import nn

from relax_rl.latent.sites import find_decoder, language_model_of

__all__ = ["PARTS", "Part", "outside_the_decoder", "part_of"]

Part = Literal["vision", "projector", "language"]
PARTS: tuple[Part, ...] = get_args(Part)

_PROJECTORS = ("projector", "connector", "merger", "aligner", "image_newline", "embed_vision", "multimodal_adapter")
"""Words in the names of what carries features over, in transformers' families."""


def part_of(model: Any) -> dict[str, Part]:
    """The part that each parameter of an image-text model belongs to, by the parameter's name.

    The projector is what turns features into the width of the language model. Qwen's merger stands inside the vision
    part, and counts as the projector.
    """
    own = language_model_of(model)
    spoken = {id(parameter) for parameter in find_decoder(own).parameters()}
    head = own.get_output_embeddings()
    spoken |= set() if head is None else {id(parameter) for parameter in head.parameters()}
    found: dict[str, Part] = {}
    for name, parameter in own.named_parameters():
        if id(parameter) in spoken:
            found[name] = "language"
        else:
            found[name] = "projector" if any(word in name for word in _PROJECTORS) else "vision"
    return found


def outside_the_decoder(model: Any) -> Iterator[nn.Parameter]:
    """The parameters that see: of the vision part and the projector."""
    parts, own = part_of(model), language_model_of(model)
    return (parameter for name, parameter in own.named_parameters() if parts[name] != "language")
