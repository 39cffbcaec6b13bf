"""States along other axes than tokens: over the cycles of a block that one forward calls several times, or over depth.

Depth-recurrent and looped models (HRM, Huginn, Ouro, TRM, continuous thoughts) pass each token through the same block
again and again. For every token, the block's outputs are a trajectory of C states.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.capture import StateCapture, evaluation_mode
from relax_rl.latent.padding import padded_on_the_right
from relax_rl.latent.sites import decoder_layers, default_sites, find_decoder, hook_site, language_model_of
from relax_rl.latent.trajectories import on_device

__all__ = ["capture_cycles", "capture_depth", "capture_repeats", "usual_sites"]


@torch.no_grad()
def capture_repeats(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """The outputs of a module at every call that `run` makes of it, (C, ...), detached.

    Works for any loop in Python, such as a hidden state that is fed back as an embedding (Coconut).

    Args:
        module: returns a tensor, or a tuple or output object that begins with one; of one shape at every call.
        run: calls the module C times.

    Raises:
        ModelError: it was not called, or its outputs differ in shape.
    """
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, args, output: outputs.append(_first_tensor(output).detach()))
    try:
        run()
    finally:
        handle.remove()
    if not outputs:
        raise ModelError(f"{type(module).__name__} was not called, so it has no cycles; name the repeated block.")
    if len({output.shape for output in outputs}) > 1:
        shapes = sorted({tuple(output.shape) for output in outputs})
        raise ModelError(
            f"{type(module).__name__} returned states of different shapes, {shapes}, so that its calls are not cycles "
            "over the same tokens; run it on all tokens at once, without a cache."
        )
    return torch.stack(outputs)


@torch.no_grad()
def capture_cycles(model: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The states of every token over the cycles of each repeated block, in one forward without a cache.

    A repeated block is an outermost module that holds layers of the decoder and runs more than once.

    Args:
        model: a Hugging Face causal language model.
        inputs: as the tokenizer made them.

    Returns:
        By the block's name in the decoder, (N, C, H) for the N tokens of the batch.

    Raises:
        ModelError: no block runs more than once.
    """
    inputs = padded_on_the_right(model, inputs)
    decoder = find_decoder(model)
    layers = decoder_layers(model)

    def run() -> object:
        with evaluation_mode(model):
            return decoder(**on_device(inputs, model), use_cache=False)

    holders = [
        (name, module)
        for name, module in decoder.named_modules()
        if name and any(part is layer for part in module.modules() for layer in layers)
    ]
    repeated = _repeated(holders, run)
    if not repeated:
        raise ModelError(
            f"Every layer of {type(language_model_of(model)).__name__} runs once in a forward pass: it has no cycles; "
            "measure it over tokens or over depth."
        )
    mask = _mask(inputs)
    # Once more for each: the states of one block are in memory at a time.
    return {name: capture_repeats(module, run)[:, mask].transpose(0, 1).cpu() for name, module in repeated}


@torch.no_grad()
def usual_sites(model: Any) -> list[str]:
    """The default sites without those that one forward passes several times: states of a repeated layer are cycles."""
    sites = default_sites(model)
    fired: Counter[str] = Counter()

    def count(site: str) -> Callable[[Tensor], None]:
        return lambda _: fired.update([site])

    handles = [hook_site(model, site, count(site)) for site in sites]
    try:
        with evaluation_mode(model):
            find_decoder(model)(
                **on_device({"input_ids": torch.zeros((1, 2), dtype=torch.long)}, model), use_cache=False
            )
    finally:
        for handle in handles:
            handle.remove()
    # A site that never fires stays: it is named in an error when it is read.
    return [site for site in sites if fired[site] < 2]


@torch.no_grad()
def capture_depth(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The states of every token over the layers, embedding first: (N, L + 1, H) for the N tokens of the batch.

    The final norm is left out: it changes the scale of what the layers add to.
    """
    inputs = padded_on_the_right(model, inputs)
    sites = ["embed", *(f"layer_{index}_out" for index in range(len(decoder_layers(model))))]
    with StateCapture(model, sites) as capture, evaluation_mode(model):
        with capture.armed():
            find_decoder(model)(**on_device(inputs, model), use_cache=False)
        states = capture.take(1)
    mask = _mask(inputs)
    return torch.stack([states[site].cpu()[mask] for site in sites], 1)


def _repeated(modules: Iterable[tuple[str, nn.Module]], run: Callable[[], object]) -> list[tuple[str, nn.Module]]:
    """The outermost of the modules that one run calls more than once."""
    modules = list(modules)
    calls: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: calls.update([name])

    handles = [module.register_forward_hook(count(name)) for name, module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found = [(name, module) for name, module in modules if calls[name] > 1]
    names = {name for name, _ in found}
    return [
        (name, module) for name, module in found if not any(name.startswith(f"{outer}.") for outer in names - {name})
    ]


def _mask(inputs: Mapping[str, Any]) -> Tensor:
    mask = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool).cpu() if mask is None else mask.bool().cpu()


def _first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
