"""Caches of a model by kind, and the operations that each allows.

===========  ==========================================================  ===============================
Kind         What is kept                                                Example
===========  ==========================================================  ===============================
attention    keys and values of all tokens                               Llama, DeepSeek-V3 (compressed)
sliding      keys and values, in some layers of the last tokens only     Mistral, Gemma-2, gpt-oss
recurrent    a state of fixed size                                       Mamba, Mamba-2
hybrid       a state in some layers, keys and values in others, or both  Qwen3-Next, Granite-4, LFM2
===========  ==========================================================  ===============================

A state takes in every token that it is given, so that one of padding must be masked in every layer. Most families of
transformers do so and some do not; keys and values of padding are masked for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, cache_utils
from transformers.cache_utils import DynamicLayer

from relax_rl.errors import ModelError

__all__ = [
    "CacheKind",
    "CachePlan",
    "cache_kind",
    "cache_plan",
    "new_cache",
    "reading_plan",
    "repeat_rows",
    "select_rows",
]

CacheKind = Literal["attention", "sliding", "recurrent", "hybrid"]

_SLIDING_LAYERS = {"sliding_attention", "chunked_attention", "reference_sliding_attention"}
_STATE_LAYERS = {"conv", "linear_attention"}
_LAYERS_OF_BOTH = {"hybrid", "hybrid_sliding"}
_LAYERS_WITHOUT = {"dummy", "moe", "mlp"}

_OWN_CACHES: dict[str, CacheKind] = {
    "cpmant": "attention",
    "minimax": "hybrid",
    "openai-gpt": "attention",
    "reformer": "attention",
    "rwkv": "recurrent",
    "xlnet": "attention",
    "xlstm": "recurrent",
}
"""Model types whose cache is none of transformers', or that have none, and whose configuration may not tell."""

_READ_ALONE = frozenset({"rwkv"})
"""Those of them that can be read, without their cache, and not sampled."""

_MASK_PADDING = frozenset(
    {
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "granitemoehybrid",
        "jamba",
        "kimi_linear",
        "lfm2",
        "lfm2_moe",
        "mamba",
        "mamba2",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "zamba2",
    }
)
"""Model types with a state that masks padding: each of them is tested against the same prompts without padding."""

_COMPRESS_PADDING = frozenset({"deepseek_v4"})
"""Model types that compress keys and values in blocks of columns, padding included."""

_GROWING_ONLY = frozenset({"deepseek_v4", "gpt_neo"})
"""Model types that are wrong, or stop, with a cache of a fixed size."""

_STATES_IN_MODULES = frozenset({"recurrent_gemma"})
"""Model types that keep their state in their layers, not in the cache: its rows cannot be repeated or dropped."""

_STATES_BY_THE_NAME_OF_MAMBA = frozenset({"falcon_mamba", "mamba", "mamba2"})
"""Model types that take the cache as ``cache_params``."""

_LEARNED_POSITIONS = frozenset({"biogpt", "ctrl", "gpt2", "gpt_bigcode", "gpt_neo", "xglm"})
"""Model types that count positions from the first column, padding included, when they are given none."""


@dataclass(frozen=True)
class CachePlan:
    """How a model is to be read and sampled.

    Attributes:
        kind: kind of its cache.
        pads_prompts: prompts of several lengths can be read together, padded on the left, given their positions. If
            not, only prompts of one length are read together.
        moves_rows: the rows of a filled cache can be repeated and dropped. If not, a prompt is read once for each of
            its samples, and finished rows stay.
        pads_texts: a forward that is given neither a cache nor positions can be padded on the left. If not, see
            :func:`relax_rl.latent.padding.right_padded`.
        argument: the name by which the model takes a cache.
        masks_steps: the model takes the attention mask also when it reads one token after its cache.
        fits_static: the model is right with transformers' static cache, whose size is fixed.
    """

    kind: CacheKind
    pads_prompts: bool
    moves_rows: bool
    pads_texts: bool
    argument: str
    masks_steps: bool
    fits_static: bool


def cache_kind(config: Any) -> CacheKind:
    """The kind of cache of a model, from its configuration alone."""
    text = config.get_text_config(decoder=True)
    if text.model_type in _OWN_CACHES:
        return _OWN_CACHES[text.model_type]
    layers = set(_layer_types(text)) - _LAYERS_WITHOUT
    states = layers & (_STATE_LAYERS | _LAYERS_OF_BOTH)
    if states:
        return "recurrent" if layers <= _STATE_LAYERS else "hybrid"
    return "sliding" if layers & _SLIDING_LAYERS else "attention"


def _layer_types(text: Any) -> list[str]:
    """The type of each layer's cache, as transformers chooses it."""
    if hasattr(cache_utils, "get_layer_types_and_kwargs"):
        return cache_utils.get_layer_types_and_kwargs(text)[0]
    # transformers before 5.14, which verl needs, has the rule inside of `DynamicCache` alone.
    given = getattr(text, "layer_types", None)
    if given is not None:
        return list(given)
    if getattr(text, "sliding_window", None) is not None:
        return ["sliding_attention"]
    return ["chunked_attention" if getattr(text, "attention_chunk_size", None) is not None else "full_attention"]


def cache_plan(config: Any) -> CachePlan:
    """How a model is to be read and sampled, from its configuration alone.

    Raises:
        ModelError: a model whose cache is none of transformers'.
    """
    name = config.get_text_config(decoder=True).model_type
    if name in _READ_ALONE:
        raise ModelError(
            f"Models of type '{name}' are read, but do not write: they keep what they have read in none of "
            "transformers' caches, so that a prompt cannot be read once for all of its samples; measure texts with "
            "`relax spectrum --text`, or choose a model of another type."
        )
    return reading_plan(config)


def reading_plan(config: Any) -> CachePlan:
    """How a model is to be read, where nothing is sampled.

    Raises:
        ModelError: a model whose cache is none of transformers', unless it can be read without it.
    """
    kind, text = cache_kind(config), config.get_text_config(decoder=True)
    name = text.model_type
    if name in _OWN_CACHES and name not in _READ_ALONE:
        raise ModelError(
            f"Models of type '{name}' are not supported: they keep what they have read in none of transformers' "
            "caches, so that a prompt cannot be read once for all of its samples; choose a model of another type."
        )
    has_state, is_blind = kind in ("recurrent", "hybrid"), name in _COMPRESS_PADDING
    return CachePlan(
        kind=kind,
        pads_prompts=name in _MASK_PADDING if has_state else not is_blind,
        moves_rows=name not in _STATES_IN_MODULES,
        # Kernels for training need not mask what those for generation mask, so that a state is never asked to.
        pads_texts=not has_state and not is_blind and name not in _LEARNED_POSITIONS,
        argument="cache_params" if name in _STATES_BY_THE_NAME_OF_MAMBA else "past_key_values",
        # A state has taken in the prompt; Mamba multiplies the one token by the mask of all that were before it.
        masks_steps=kind != "recurrent",
        # Falcon with alibi makes it from a mask of two dimensions, and a static cache has one of four.
        fits_static=name not in _GROWING_ONLY and not (name == "falcon" and text.alibi),
    )


class _RoomyLayer(DynamicLayer):
    """Keys and values of all tokens, written into a buffer with room for more.

    The layer that it takes the place of joins the new token to all others each time, which copies what is kept once a
    token. What the model reads is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[Tensor] = []
        self._seen: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As the layer of transformers."""
        held = self.get_seq_length()
        if not held:
            self.keys, self.values = super().update(key_states, value_states, *args, **kwargs)
            return self.keys, self.values
        end = held + key_states.shape[-2]
        given = (key_states, value_states)
        kept: list[Tensor] = [self.keys, self.values]  # pyright: ignore[reportAssignmentType]
        # Rows that were repeated or dropped are other tensors, of which the buffers know nothing.
        is_known = all(own is seen for own, seen in zip(kept, self._seen, strict=True)) if self._seen else False
        if not is_known or end > self._buffers[0].shape[-2]:
            room = end + max(_ROOM, held // 4)
            self._buffers = [own.new_empty((*own.shape[:-2], room, own.shape[-1])) for own in kept]
            for buffer, own in zip(self._buffers, kept, strict=True):
                buffer[..., :held, :] = own
        for buffer, new in zip(self._buffers, given, strict=True):
            buffer[..., held:end, :] = new
        self._seen = [buffer[..., :end, :] for buffer in self._buffers]
        self.keys, self.values = self._seen
        return self.keys, self.values


_ROOM = 32
"""Tokens that a buffer has room for beyond those that are kept, at least."""


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this configuration."""
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    # Exactly this type: its subclasses keep more than keys and values, or not all of them.
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def repeat_rows(cache: DynamicCache, repeats: int, num_rows: int, device: torch.device) -> None:
    """Each of the `num_rows` rows of a filled cache `repeats` times, one after the other, in place."""
    select_rows(cache, torch.arange(num_rows, device=device).repeat_interleave(repeats))


def select_rows(cache: DynamicCache, rows: Tensor) -> None:
    """The rows (N,) of a filled cache in this order, in place; one may be named several times or not at all."""
    # Meant for beam search, and the only one of transformers' operations on rows that every layer of a cache has.
    cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]
