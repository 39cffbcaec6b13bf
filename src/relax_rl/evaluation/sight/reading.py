"""Completions read again behind other prompts: next-token distributions and hidden states at the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.evaluation.prompts import left_pad, looks_of, prompt_inputs, prompt_positions, without_image_token
from relax_rl.latent.capture import StateCapture, evaluation_mode
from relax_rl.latent.images.sharing import shown
from relax_rl.latent.padding import right_padded
from relax_rl.latent.sites import FINAL_NORM

__all__ = ["Reading", "batches", "divergence", "read"]

_LOGITS_PER_BATCH = 2**25
"""Numbers of one forward, 128 MiB in float32; two forwards are compared at a time."""


@dataclass(frozen=True)
class Reading:
    """Some prompts with their completions, read once.

    Attributes:
        log_probs: (B, T, V) float32, of the distribution that each token was drawn from; None unless asked for.
        states: (B, T, H) by site, of the tokens of the completion.
        images: by site, one (N_b, H) for each row: the states of its prompt's image tokens, in their order.
        mask: (B, T) bool, true at the tokens of the completion.
    """

    log_probs: Tensor | None
    states: dict[str, Tensor]
    images: dict[str, list[Tensor]]
    mask: Tensor


def batches(
    model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], tokens: int
) -> Iterator[list[int]]:
    """Rows to read together, longest first; every row once.

    Args:
        tokens: tokens of one forward, at most, unless one row has more.
    """
    order = sorted(range(len(prompts)), key=lambda row: (-len(completions[row]), -len(prompts[row])))
    vocabulary = model.get_output_embeddings().weight.shape[0]
    while order:
        longest = len(completions[order[0]]) + 1
        by_logits = _LOGITS_PER_BATCH // (longest * vocabulary)
        most = max(1, min(by_logits, tokens // (longest + max(len(prompts[row]) for row in order))))
        yield order[:most]
        order = order[most:]


def read(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sites: Sequence[str],
    *,
    temperature: float | None = None,
) -> Reading:
    """One forward over prompts, which bring their images along, and completions.

    Args:
        sites: sites of the states; resolved names (`relax_rl.latent.sites`); none for the distributions alone.
        temperature: temperature of the distributions; None: they are not computed.

    Raises:
        ModelError: the model's states cannot be read, or it takes no features of images.
    """
    device = model.device
    completion_ids, mask = (tensor.flip(1) for tensor in left_pad([row[::-1] for row in completions], device))
    looks = looks_of(prompts)
    inputs = prompt_inputs(model, prompts, looks, (completion_ids, mask))
    width = completion_ids.shape[1]
    # One position for a model that must compute some logits.
    kept = 1 if temperature is None else width + 1
    capturing = StateCapture(model, sites or (FINAL_NORM,))
    with evaluation_mode(model), capturing as capture, right_padded(model), shown(model, looks):
        with capture.armed():
            output = model(**inputs, position_ids=prompt_positions(model, inputs), use_cache=False, logits_to_keep=kept)
        states = capture.take(1)
        log_probs = None
        if temperature is not None:
            logits = without_image_token(model, output.logits[:, :-1]).float() / temperature
            log_probs = logits.log_softmax(-1)
    is_image = _is_image(model, inputs["input_ids"])
    return Reading(
        log_probs=log_probs,
        states={site: states[site][:, -width:] for site in sites},
        images={site: [row[kind] for row, kind in zip(states[site], is_image, strict=True)] for site in sites},
        mask=mask.bool(),
    )


def _is_image(model: Any, ids: Tensor) -> Tensor:
    token = getattr(model.config, "image_token_id", None)
    return torch.zeros_like(ids, dtype=torch.bool) if token is None else ids == token


def divergence(true: Tensor, other: Tensor) -> Tensor:
    """KL(true || other) in nats of each token, (B, T), from log-probabilities (B, T, V); row by row, for memory."""
    found: list[Tensor] = []
    for first, second in zip(true, other, strict=True):
        # What is never drawn has log-probability -inf in both, and adds nothing.
        terms = torch.where(torch.isneginf(first), 0.0, first.exp() * (first - second))
        found.append(terms.sum(-1).clamp_min(0.0))
    return torch.stack(found)
