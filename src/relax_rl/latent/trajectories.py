"""Latent trajectories of a model: the hidden states at the tokens of a text, read or generated, one sequence a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import DataError
from relax_rl.latent.caches import cache_plan
from relax_rl.latent.capture import StateCapture, evaluation_mode
from relax_rl.latent.padding import padded_on_the_right
from relax_rl.latent.sites import find_decoder, language_model_of

__all__ = ["LatentTrajectory", "capture_generation", "capture_inputs", "capture_sequences", "on_device"]


@dataclass(frozen=True)
class LatentTrajectory:
    """The hidden states of one sequence, or of its completion, in the order of its tokens.

    Attributes:
        row: position of the sequence in what was given.
        states: (T, H) at each site, in the model's dtype, on the CPU unless another device was asked for. They may be
            slices of the batch that was read together, which lives as long as any of its rows.
        token_ids: the T tokens at which the states stand.
    """

    row: int
    states: dict[str, Tensor]
    token_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.token_ids)


@torch.no_grad()
def capture_inputs(
    model: Any, inputs: Mapping[str, Any], sites: Sequence[str], *, device: torch.device | str = "cpu"
) -> list[LatentTrajectory]:
    """One teacher-forced forward over a batch as a tokenizer or processor made it; images and all.

    The head is not run, so that no logits are made.

    Args:
        inputs: ``input_ids`` (B, L) and what else the model's backbone takes; ``attention_mask`` (B, L) says which
            positions are tokens, padded on either side.
        device: device for the states.

    Raises:
        DataError: no ``input_ids``.
        ConfigError, ModelError: see :class:`~relax_rl.latent.capture.StateCapture`.
    """
    inputs = padded_on_the_right(model, inputs)
    token_ids, mask = _ids_and_mask(inputs)
    with StateCapture(model, sites) as capture, evaluation_mode(model):
        with capture.armed():
            # Without a cache: everything is read in one forward, and the keys and values of all layers would be kept
            # for nothing.
            _backbone(model)(**on_device(inputs, model), use_cache=False)
        states = capture.take(1)
    return _rows(states, token_ids, mask, device)


@torch.no_grad()
def capture_generation(
    model: Any,
    inputs: Mapping[str, Any],
    sites: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    **generation: Any,
) -> list[LatentTrajectory]:
    """The states of completions while the model's own ``generate`` draws them.

    The token drawn last is never read by the model, so that a completion of T tokens has T - 1 states here, and T when
    it is read again by :func:`capture_inputs`. Otherwise both are the same states.

    Args:
        inputs: a batch of prompts as the tokenizer (padding on the left) or processor made it.
        generation: for ``generate``: ``max_new_tokens``, ``do_sample``, ``num_return_sequences``, ...; neither beam
            search nor assisted decoding, which read tokens that they drop.

    Returns:
        One trajectory a completion; a completion ends with its first stop token.

    Raises:
        ModelError: a site did not fire exactly once for each position that was read.
        DataError: padded prompts, of a model that takes padding into its state.
    """
    prompts, prompt_mask = _ids_and_mask(inputs)
    if not prompt_mask.all() and not cache_plan(language_model_of(model).config).pads_prompts:
        raise DataError(
            f"{type(language_model_of(model)).__name__} takes padding into its state; give prompts of one length."
        )
    with StateCapture(model, sites) as capture, evaluation_mode(model):
        with capture.armed():
            sequences = model.generate(**on_device(inputs, model), **generation, return_dict_in_generate=True)
        completions = sequences.sequences[:, prompts.shape[1] :].cpu()
        # One forward reads the prompts, and one each token but the last.
        states = capture.take(completions.shape[1])
    # The first stop token is part of its completion, and only what follows it is not.
    stops = torch.tensor(_stop_ids(model, generation), dtype=torch.long)
    is_after_stop = torch.isin(completions, stops).long().cumsum(1) - torch.isin(completions, stops).long() > 0
    # Without the last place: the token drawn there was never read, and has no state.
    mask = (~is_after_stop)[:, :-1]
    kept = {site: values[:, prompts.shape[1] :] for site, values in states.items()}
    return _rows(kept, completions[:, :-1], mask, device)


def capture_sequences(
    model: Any,
    sequences: Sequence[Sequence[int]],
    sites: Sequence[str],
    *,
    starts: Sequence[int] | None = None,
    tokens_per_batch: int = 2**13,
    device: torch.device | str = "cpu",
) -> Iterator[LatentTrajectory]:
    """Read token sequences, those of like length together, longest first.

    Args:
        sequences: token ids, none empty.
        starts: number of first tokens of each sequence (the prompt) that are read but not kept; 0 where None.
        tokens_per_batch: most positions of one forward, padding included (a longer sequence is read alone): memory is
            this times H times the number of sites.

    Yields:
        Every sequence once, in the order in which they were read; `row` says which it is.

    Raises:
        DataError: an empty sequence, or one that `starts` leaves nothing of.
    """
    starts = [0] * len(sequences) if starts is None else list(starts)
    if len(starts) != len(sequences):
        raise DataError(f"starts must hold one number a sequence; got {len(starts)} for {len(sequences)}.")
    for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        if not 0 <= start < len(sequence):
            raise DataError(
                f"sequence {row} has {len(sequence)} tokens, of which {start} are not kept, so nothing is left to "
                "read; give it at least one more token."
            )
    # Longest first: what does not fit in memory fails at once, not after an hour.
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    first = 0
    while first < len(order):
        width = len(sequences[order[first]])
        rows = order[first : first + max(1, tokens_per_batch // width)]
        first += len(rows)
        # Padding on the right: under a causal mask it changes nothing before it, positions included.
        ids = torch.tensor([[*sequences[row], *[0] * (width - len(sequences[row]))] for row in rows])
        mask = torch.tensor([[1] * len(sequences[row]) + [0] * (width - len(sequences[row])) for row in rows])
        for read in capture_inputs(model, {"input_ids": ids, "attention_mask": mask}, sites, device=device):
            row, start = rows[read.row], starts[rows[read.row]]
            states = {site: values[start:] for site, values in read.states.items()}
            yield LatentTrajectory(row, states, read.token_ids[start:])


def _backbone(model: Any) -> nn.Module:
    """The model without its head, which takes the same inputs; the decoder itself where there is no such part."""
    language_model = language_model_of(model)
    return getattr(language_model, "base_model", None) or find_decoder(model)


def _ids_and_mask(inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    if "input_ids" not in inputs:
        raise DataError(f"The inputs have no 'input_ids' (they have {', '.join(inputs) or 'nothing'}); tokenize first.")
    ids = inputs["input_ids"].cpu()
    mask = inputs.get("attention_mask")
    return ids, torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.cpu().bool()


def on_device(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """The inputs, their tensors on the model's device."""
    return {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _stop_ids(model: Any, generation: Mapping[str, Any]) -> list[int]:
    # What the call says goes before what the model says, as in `generate`.
    config = generation.get("generation_config") or getattr(model, "generation_config", None)
    stops = generation.get("eos_token_id", getattr(config, "eos_token_id", None))
    return [stops] if isinstance(stops, int) else list(stops or ())


def _rows(
    states: dict[str, Tensor], token_ids: Tensor, mask: Tensor, device: torch.device | str
) -> list[LatentTrajectory]:
    moved = {site: values.to(device) for site, values in states.items()}
    rows = []
    for row, keep in enumerate(mask):
        places = keep.nonzero().squeeze(-1)
        first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        # Padding is on one side, so a row is a slice of its batch, and need not be copied.
        chosen = slice(first, last) if last - first == len(places) else places.to(device)
        kept = {site: values[row, chosen] for site, values in moved.items()}
        rows.append(LatentTrajectory(row, kept, tuple(token_ids[row, keep].tolist())))
    return rows
