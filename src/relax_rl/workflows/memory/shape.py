"""The sizes of a model that decide its memory, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relax_rl.latent.sites import decoder_layers, find_decoder

__all__ = ["ModelShape", "shape_of"]


@dataclass(frozen=True)
class ModelShape:
    """A decoder's sizes.

    Attributes:
        num_parameters: number of parameters of the model, tied ones once.
        layer_parameters: parameters of its largest layer.
        linear_features: (inputs, outputs) of each linear layer that gets an adapter, over all layers.
        num_layers, hidden, intermediate, vocabulary: L, H, I, V.
        query, key_value: features of all query heads, and of all key heads.
        num_heads: number of heads of the queries.
        is_tied: embedding and head share their weight.
    """

    num_parameters: int
    layer_parameters: int
    linear_features: tuple[tuple[int, int], ...]
    num_layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    query: int
    key_value: int
    num_heads: int
    is_tied: bool

    @property
    def head_parameters(self) -> int:
        return self.vocabulary * self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of a LoRA adapter on every linear layer but the head."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linear_features)


def shape_of(model: Any) -> ModelShape:
    """The shape of a Hugging Face model, which may be on the meta device."""
    from torch import nn

    decoder: Any = find_decoder(model)
    config, head = decoder.config, model.get_output_embeddings()
    layers = decoder_layers(model)
    linears = [
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    num_heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    return ModelShape(
        num_parameters=model.num_parameters(),
        layer_parameters=max(sum(parameter.numel() for parameter in layer.parameters()) for layer in layers),
        linear_features=tuple(linears),
        num_layers=len(layers),
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        query=num_heads * width,
        key_value=(getattr(config, "num_key_value_heads", None) or num_heads) * width,
        num_heads=num_heads,
        is_tied=head is not None and head.weight is model.get_input_embeddings().weight,
    )
