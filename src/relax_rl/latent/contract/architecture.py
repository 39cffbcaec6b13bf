"""Architecture of a model, from its configuration and its modules; no weight is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from relax_rl.errors import ModelError
from relax_rl.latent.caches import cache_kind
from relax_rl.latent.contract.dropout import dropout_rates
from relax_rl.latent.sites import find_decoder, language_model_of

__all__ = ["Architecture", "context_length", "quantization_of", "read_architecture", "reads_images"]

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
_SOFT_CAPS = ("final_logit_softcapping", "attn_logit_softcapping", "logits_soft_cap", "attention_logit_cap")
_STRETCHED = ("yarn", "longrope", "su")
"""Kinds of rotary scaling whose configuration may hold the length before the stretch."""


@dataclass(frozen=True)
class Architecture:
    """A model's kind.

    Attributes:
        model_class, model_type: transformers' names.
        modality: "text" or "image-text".
        backbone, head: class of the stack whose output is the final-norm state, and name and class of what follows it.
        final_norm: name and class of the last norm of the decoder; "" where it has none.
        num_layers, hidden_size, vocabulary: number of layers and width of the decoder; rows of the embedding.
        num_parameters: number of parameters of the model, tied ones once.
        cache: the model's memory of the tokens it has read: "attention", "sliding", "recurrent" or "hybrid".
        context: positions that a prompt and its completion share; None where the architecture has no limit.
        is_tied: the head shares the embedding's weight.
        soft_caps: limits that squash logits, by their name in the configuration.
        dropout: rates above zero, by the names of the model's modules.
        quantization: method of quantised weights; None for plain ones.
    """

    model_class: str
    model_type: str
    modality: str
    backbone: str
    head: str
    final_norm: str
    num_layers: int
    hidden_size: int
    vocabulary: int
    num_parameters: int
    cache: str
    context: int | None
    is_tied: bool
    soft_caps: Mapping[str, float] = field(default_factory=dict)
    dropout: Mapping[str, float] = field(default_factory=dict)
    quantization: str | None = None


def reads_images(config: Any) -> bool:
    """Whether a configuration is that of an image-text model."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def read_architecture(model: Any) -> Architecture:
    """The kind of a Hugging Face model, which may be on the meta device.

    Raises:
        ModelError: no decoder whose states can be read.
    """
    decoder, own = find_decoder(model), language_model_of(model)
    config = own.config
    text = config.get_text_config()
    embedding = own.get_input_embeddings()
    return Architecture(
        model_class=type(own).__name__,
        model_type=str(config.model_type),
        modality="image-text" if reads_images(config) else "text",
        backbone=type(decoder).__name__,
        head=_head(own),
        final_norm=_final_norm(decoder),
        num_layers=int(text.num_hidden_layers),
        hidden_size=int(text.hidden_size),
        vocabulary=int(embedding.weight.shape[0]),
        num_parameters=sum(parameter.numel() for parameter in own.parameters()),
        cache=cache_kind(config),
        context=context_length(config),
        is_tied=_is_tied(own),
        soft_caps={name: float(cap) for name in _SOFT_CAPS if (cap := getattr(text, name, None))},
        dropout=dropout_rates(own),
        quantization=quantization_of(config),
    )


def _is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and embedding is not None and head.weight is embedding.weight


def _head(model: Any) -> str:
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__} has no language-model head, so it cannot write; use a causal model.")
    name = next(name for name, module in model.named_modules() if module is head)
    return f"{name} ({type(head).__name__})"


def _final_norm(decoder: nn.Module) -> str:
    norms = [
        (name, type(module).__name__) for name, module in decoder.named_children() if "Norm" in type(module).__name__
    ]
    return f"{norms[-1][0]} ({norms[-1][1]})" if norms else ""


def context_length(config: Any) -> int | None:
    """Positions that a prompt and its completion share; None where the architecture has no such limit.

    Rotary scaling that stretches the positions is counted. A model without positions (Mamba) or with a bias that falls
    with the distance (ALiBi) has no limit.
    """
    text = config.get_text_config()
    if _has_alibi(text):
        return None
    length = next((int(value) for name in _LENGTHS if (value := getattr(text, name, None))), None)
    if length is None:
        return None
    return max([length, *(_stretched(rope, length) for rope in _rope_settings(text))])


def _has_alibi(text: Any) -> bool:
    attention = getattr(text, "attn_config", None)
    return bool(text.model_type == "bloom" or getattr(text, "alibi", False) or getattr(attention, "alibi", False))


def _rope_settings(text: Any) -> list[Mapping[str, Any]]:
    """One table of rotary settings, or one a kind of layer."""
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)
    if not isinstance(rope, Mapping):
        return []
    tables = [value for value in rope.values() if isinstance(value, Mapping)]
    return [*tables, rope]


def _stretched(rope: Mapping[str, Any], length: int) -> int:
    factor = rope.get("factor") or 1.0
    kind = rope.get("rope_type") or rope.get("type")
    if kind in _STRETCHED:
        return int(factor * (rope.get("original_max_position_embeddings") or 0))
    return int(factor * length) if kind in ("linear", "dynamic") else 0


def quantization_of(config: Any) -> str | None:
    """The method by which the weights are quantised; None for plain weights."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, Mapping) else getattr(settings, "quant_method", None)
    return str(getattr(method, "value", method) or "unknown method")
