"""Sites: the places of a decoder at which a hidden state can be read, by name.

``embed``            what enters the first layer: token embeddings with whatever the model adds to or multiplies them by
``layer_{i}_out``    what leaves layer i, counted from 0, or from the end as in ``layer_-1_out``
``final_norm_out``   what leaves the final norm, before the head: Hugging Face's ``hidden_states[-1]``

The last layer's output and the final norm's are two different states; ``hidden_states`` of transformers holds only the
second. In a model of several modalities the decoder is the language model, and its states include those of the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.encoders import check_causal

__all__ = [
    "EMBED",
    "FINAL_NORM",
    "decoder_layers",
    "default_sites",
    "find_decoder",
    "hook_site",
    "language_model_of",
    "resolve_sites",
]

EMBED = "embed"
FINAL_NORM = "final_norm_out"
_LAYER = re.compile(r"layer_(-?\d+)_out")


def language_model_of(model: Any) -> Any:
    """The Hugging Face model itself, out of its PEFT wrapper if it has one."""
    # Asked by name, as peft is an optional package. `base_model` would not do: on a PEFT wrapper it is the tuner, on a
    # Hugging Face model the backbone. And `peft_config` alone would not: transformers writes it on a model whose
    # adapters it loaded itself, which has no wrapper.
    is_wrapped = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    return model.get_base_model() if is_wrapped else model


def find_decoder(model: nn.Module) -> nn.Module:
    """The stack of layers that ends in the final norm: the language model of an image-text model.

    Raises:
        ModelError: no Hugging Face decoder, an encoder, or an encoder-decoder.
    """
    language_model = language_model_of(model)
    if not hasattr(language_model, "get_decoder"):
        raise ModelError(
            f"{type(language_model).__name__} has no `get_decoder`, so its hidden states cannot be found; use a "
            "Hugging Face causal language model."
        )
    check_causal(language_model.config, type(language_model).__name__)
    if getattr(language_model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(language_model).__name__} is an encoder-decoder, whose two stacks have no one trajectory of hidden "
            "states; use a decoder-only model."
        )
    return language_model.get_decoder()


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the decoder in their order, found by the class that transformers itself records.

    Raises:
        ModelError: the decoder declares no such class and holds no list of as many layers as its config says.
    """
    decoder: Any = find_decoder(model)
    # A class, a recorder that names one, or absent: transformers knows all three.
    recorded = (getattr(decoder, "_can_record_outputs", None) or {}).get("hidden_states")
    recorded = getattr(recorded, "target_class", recorded)
    if isinstance(recorded, type):
        # modules() goes in the order of registration, which for a stack of layers is that of depth.
        layers = [module for module in decoder.modules() if isinstance(module, recorded)]
        if layers:
            return layers
    expected = getattr(getattr(decoder, "config", None), "num_hidden_layers", None)
    for module in decoder.children():
        if isinstance(module, nn.ModuleList) and len(module) == expected:
            return list(module)
    raise ModelError(
        f"The layers of {type(decoder).__name__} could not be found: it declares no class of layers to transformers "
        f"and holds no list of {expected} of them; capture '{FINAL_NORM}' only."
    )


def resolve_sites(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The sites in order of depth, each once, with layers counted from 0.

    Args:
        names: sites; "all" stands for every site of the model.

    Raises:
        ConfigError: no site, or one that is not a site of this model; the message says what the model has.
        ModelError: see `decoder_layers`.
    """
    if not names:
        raise ConfigError(f"No site was named at which to read hidden states; the usual one is '{FINAL_NORM}'.")
    # Before the layers are looked for: the usual site works on models whose layers cannot be found.
    if list(names) == [FINAL_NORM]:
        return [FINAL_NORM]
    num_layers = len(decoder_layers(model))
    every = [EMBED, *(f"layer_{index}_out" for index in range(num_layers)), FINAL_NORM]
    if list(names) == ["all"]:
        return every
    depths = set()
    for name in names:
        match = _LAYER.fullmatch(name)
        index = int(match[1]) if match else 0
        if match and -num_layers <= index < num_layers:
            depths.add(1 + index % num_layers)
        elif name in (EMBED, FINAL_NORM):
            depths.add(every.index(name))
        else:
            raise ConfigError(
                f"'{name}' is no site of {type(model).__name__}, which has {EMBED}, layer_0_out to "
                f"layer_{num_layers - 1}_out (or layer_-1_out for the last), and {FINAL_NORM}."
            )
    return [every[depth] for depth in sorted(depths)]


def default_sites(model: nn.Module, num_layers: int = 3) -> list[str]:
    """The embedding, `num_layers` layers that part the depth evenly, and the final norm."""
    depth = len(decoder_layers(model))
    parts = [round(depth * part / (num_layers + 1)) for part in range(1, num_layers + 1)]
    return resolve_sites(model, [EMBED, *(f"layer_{min(part, depth - 1)}_out" for part in parts), FINAL_NORM])


def hook_site(model: nn.Module, site: str, receive: Callable[[Tensor], None]) -> RemovableHandle:
    """Have `receive` called with the hidden states (B, T, H) of a resolved site in every forward of the decoder."""
    if site == FINAL_NORM:
        # At the decoder, not at its norm, which has another name in every family of models.
        return find_decoder(model).register_forward_hook(lambda module, args, output: receive(_last_state(output)))
    layers = decoder_layers(model)
    if site == EMBED:
        # What enters the first layer, and not what leaves the embedding: some families scale or add to it in between.
        # They also differ in whether they give it by position or by name.
        return layers[0].register_forward_pre_hook(
            lambda module, args, kwargs: receive(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
    match = _LAYER.fullmatch(site)
    if match is None:
        raise ConfigError(f"'{site}' is no site; name {EMBED}, layer_0_out, ..., or {FINAL_NORM}.")
    # A layer returns its states, or a tuple that begins with them: that differs between versions and families.
    return layers[int(match[1])].register_forward_hook(
        lambda module, args, output: receive(output if isinstance(output, Tensor) else output[0])
    )


def _last_state(output: Any) -> Tensor:
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
