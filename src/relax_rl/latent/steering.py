"""The effect of a direction that is added to a hidden state on the states of the tokens that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ConfigError, DataError
from relax_rl.latent.capture import StateCapture, evaluation_mode
from relax_rl.latent.sites import EMBED, FINAL_NORM, decoder_layers, find_decoder, resolve_sites

__all__ = ["steered", "steering_differences"]


@contextmanager
def steered(model: nn.Module, site: str, added: Tensor) -> Iterator[None]:
    """Inside, every forward of the decoder has `added` added to its states at a site.

    Args:
        model: a Hugging Face causal language model.
        site: "embed" or the output of a layer. Not the final norm, after which no token reads a state.
        added: (T, H) for the T tokens of a forward, or anything that broadcasts to (B, T, H).

    Raises:
        ConfigError: no such site, or the final norm.
    """
    (site,) = resolve_sites(model, [site])
    if site == FINAL_NORM:
        raise ConfigError(
            f"'{FINAL_NORM}' is read by the head alone, so that no later token would differ; name a layer."
        )
    layers = decoder_layers(model)

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (args[0] + added.to(args[0]), *args[1:]), kwargs
        states = kwargs["hidden_states"]
        return args, {**kwargs, "hidden_states": states + added.to(states)}

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        # A layer returns its states, or a tuple that begins with them: that differs between versions and families.
        if isinstance(output, Tensor):
            return output + added.to(output)
        return (output[0] + added.to(output[0]), *output[1:])

    if site == EMBED:
        handle = layers[0].register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = layers[int(site.split("_")[1])].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def steering_differences(
    model: Any,
    token_ids: Sequence[int],
    site: str,
    direction: Tensor,
    *,
    at: Sequence[int],
    steps: int,
    strength: float = 1.0,
    holds: bool = False,
    read: str = FINAL_NORM,
) -> Tensor:
    """How the states of a text change, per unit of strength, when a direction is added at one token, or from it on.

    The text is the same either way: what is measured passes through the layers and not through other tokens.

    Args:
        model: a Hugging Face causal language model.
        token_ids: the text.
        site: site at which the direction is added; see :func:`steered`.
        direction: (H,).
        at: tokens at which it is added, one forward each, with at least `steps` tokens behind.
        steps: tokens whose states are compared, the first being that of the push.
        strength: the direction is added so many times; small, and the answer is the derivative.
        holds: add it at every later token, too.
        read: site whose states are compared.

    Returns:
        (len(at), steps, H') float64.

    Raises:
        ConfigError: a site that there is not, or a strength of 0.
        DataError: a direction of another width, or a token without enough behind it.
    """
    if strength == 0:
        raise ConfigError("A strength of 0 adds nothing; give another.")
    if steps < 1 or not all(0 <= place <= len(token_ids) - steps for place in at):
        raise DataError(
            f"Each push needs {steps} tokens of the {len(token_ids)} from its own on; move it, or ask for fewer."
        )
    ids = torch.tensor([list(token_ids)], device=next(model.parameters()).device)
    clean, own = (_states(model, ids, place) for place in (read, site))
    width = own.shape[1]
    if direction.shape != (width,) or not bool(torch.isfinite(direction).all()):
        raise DataError(
            f"The direction must be finite ({width},), as the states at '{site}', got {tuple(direction.shape)}."
        )
    found = []
    for place in at:
        added = torch.zeros((len(token_ids), width), dtype=torch.float64)
        added[place : None if holds else place + 1] = strength * direction.double().cpu()
        with steered(model, site, added.to(ids.device)):
            changed = _states(model, ids, read)
        found.append((changed - clean)[place : place + steps] / strength)
    return torch.stack(found)


def _states(model: Any, ids: Tensor, site: str) -> Tensor:
    """(T, H) float64 on the CPU."""
    with StateCapture(model, [site]) as capture, evaluation_mode(model):
        with capture.armed():
            find_decoder(model)(input_ids=ids, use_cache=False)
        (states,) = capture.take(1).values()
    return states[0].double().cpu()
