"""The final norm of a decoder, for states that were recorded before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.capture import evaluation_mode
from relax_rl.latent.sites import decoder_layers, find_decoder, language_model_of

__all__ = ["final_norm_of"]

_PROBE = 3


@torch.no_grad()
def final_norm_of(model: Any) -> Callable[[Tensor], Tensor]:
    """Module that takes the output of the last layer (..., H) to the model's final hidden state (..., H), in float32.

    It has another name in every family of models, and some have none. So it is looked for in a forward pass: the part
    of the decoder that is given the last layer's output and returns the final state.

    Raises:
        ModelError: no part of the decoder does that.
    """
    decoder, last = find_decoder(model), decoder_layers(model)[-1]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    left: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            seen[module] = args[0], output

    handles = [part.register_forward_hook(note) for part in decoder.children()]
    handles.append(
        last.register_forward_hook(lambda _, args, out: left.append(out if isinstance(out, Tensor) else out[0]))
    )
    try:
        with evaluation_mode(model):
            found = decoder(input_ids=torch.arange(_PROBE, device=model.device).unsqueeze(0), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    final = found.last_hidden_state
    for module, (given, returned) in seen.items():
        if torch.equal(given, left[-1]) and torch.equal(returned, final):
            return _applied(module, final.dtype, final.device)
    if torch.equal(left[-1], final):
        return lambda states: states.float()
    raise ModelError(
        f"{type(language_model_of(model)).__name__} has no part that takes its last layer's output to its final state, "
        "so the norm cannot be applied to recorded states; leave final_norm_out out."
    )


def _applied(module: nn.Module, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def apply(states: Tensor) -> Tensor:
        return module(states.to(device, dtype)).float().cpu()

    return apply
