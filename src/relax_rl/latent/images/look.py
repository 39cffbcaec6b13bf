"""A processor's output for one prompt: token ids, and the tensors of its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ModelError
from relax_rl.latent.contract.files import first_line

__all__ = ["Look", "by_object", "look_at", "rows_of"]

_NOT_FOR_THE_MODEL = {"input_ids", "attention_mask", "labels"}
"""Beside ids and mask: PaliGemma's processor counts labels among a model's inputs."""


@dataclass(frozen=True, eq=False)
class Look:
    """A prompt as its processor read it, alone and without padding.

    Rows of one prompt hold the same object, which is how the vision part knows that it need look only once.

    Attributes:
        token_ids: token ids of the prompt, L of them, those that stand for images among them.
        per_token: (L,) for each further entry a token, such as ``mm_token_type_ids``.
        images: inputs of the vision part, by the names of the processor; empty without images.
    """

    token_ids: list[int]
    per_token: dict[str, Tensor]
    images: dict[str, Tensor]

    @property
    def num_bytes(self) -> int:
        """Memory of the images' tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.images.values())

    def to(self, device: Any) -> Look:
        """The same on another device."""
        moved = [{name: tensor.to(device) for name, tensor in held.items()} for held in (self.per_token, self.images)]
        return Look(self.token_ids, *moved)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and tensors only, for a checkpoint."""
        return {"token_ids": self.token_ids, "per_token": self.per_token, "images": self.images}


def look_at(
    processor: Any,
    conversation: Sequence[Mapping[str, Any]],
    *,
    switches: Mapping[str, Any] | None = None,
    **options: Any,
) -> Look:
    """Have a processor read one conversation, which ends with the user's turn.

    Args:
        conversation: turns whose content is a list of parts, ``{"type": "image", "image": ...}`` among them.
        switches: switches of the chat template.
        options: further ones of `apply_chat_template`.

    Raises:
        ModelError: the processor does not take such a prompt, such as one without an image.
    """
    try:
        made = processor.apply_chat_template(
            [list(conversation)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **options,
            **(switches or {}),
        )
    except (TypeError, ValueError) as error:
        count = sum(part["type"] == "image" for turn in conversation for part in turn["content"])
        raise ModelError(
            f"{type(processor).__name__} cannot read a prompt with {count} images: {first_line(error)}; leave such "
            "problems out, or choose another model."
        ) from error
    ids = made["input_ids"]
    others = {name: value for name, value in made.items() if name not in _NOT_FOR_THE_MODEL}
    is_per_token = {name: name.endswith("token_type_ids") for name in others}
    return Look(
        token_ids=torch.as_tensor(ids)[0].tolist(),
        per_token={name: value[0] for name, value in others.items() if is_per_token[name]},
        images={name: torch.as_tensor(value) for name, value in others.items() if not is_per_token[name]},
    )


def by_object(looks: Iterable[Look]) -> list[Look]:
    """Each object once, in the order of its first row."""
    return list({id(look): look for look in looks}.values())


def rows_of(looks: Sequence[Look]) -> list[int]:
    """The place of each row's look in `by_object`."""
    places = {id(look): place for place, look in enumerate(by_object(looks))}
    return [places[id(look)] for look in looks]
