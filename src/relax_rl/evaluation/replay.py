"""One teacher-forced forward over sampled completions: the policy's entropy and its hidden states, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relax_rl.evaluation.prompts import (
    left_pad,
    looks_of,
    prompt_inputs,
    prompt_positions,
    without_image_token,
)
from relax_rl.latent.capture import ForwardCapture, evaluation_mode
from relax_rl.latent.images.sharing import shown
from relax_rl.latent.padding import right_padded

__all__ = ["ReplayBatch", "replay"]

_LOGITS_PER_BATCH = 2**25
"""Logits of one forward: 128 MiB in float32."""
_TOKENS_PER_BATCH = 2**15
"""Positions of one forward, which bounds activations and hidden states where the vocabulary is small."""


@dataclass(frozen=True)
class ReplayBatch:
    """Some of the rows that were replayed.

    Attributes:
        rows: their positions in the input, B of them.
        entropy: (B, T) full-vocabulary entropy in nats of the distribution that each token was drawn from; 0 outside
            the mask.
        hidden_states: (B, T, H) final-norm hidden states of the completion's tokens (``hidden_states[-1]``), in the
            model's dtype.
        mask: (B, T) bool, true at the tokens of the completion.
    """

    rows: list[int]
    entropy: Tensor
    hidden_states: Tensor
    mask: Tensor


def replay(
    model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], *, temperature: float = 1.0
) -> Iterator[ReplayBatch]:
    """Run the model once over every prompt with its completion.

    Args:
        prompts, completions: token ids, one pair a row, none empty; prompts of a processor bring their images along.
        temperature: temperature of the sampling; divides the logits. At 0 (greedy) the entropy is that of temperature
            1, since a greedy choice has none. Truncation by top-p is not applied.

    Yields:
        Batches of rows of like length, every row once. Memory is bounded by the batch.

    Raises:
        ModelError: the model has no decoder that is distinct from its head, or does not run it once a forward.
    """
    longest_first = sorted(range(len(prompts)), key=lambda row: (-len(completions[row]), -len(prompts[row])))
    start = 0
    while start < len(longest_first):
        num_rows = _rows_that_fit(model, prompts, completions, longest_first[start])
        rows = longest_first[start : start + num_rows]
        start += len(rows)
        with evaluation_mode(model):
            batch = _forward(model, [prompts[row] for row in rows], [completions[row] for row in rows], temperature)
        yield ReplayBatch(rows, *batch)


def _rows_that_fit(model: Any, prompts: Sequence, completions: Sequence, longest: int) -> int:
    # Rows are sorted by completion first, so a later prompt may be longer; the bound is meant for memory, not exact.
    num_positions = len(completions[longest]) + 1
    logits_bound = _LOGITS_PER_BATCH // (num_positions * model.get_output_embeddings().weight.shape[0])
    return max(1, min(logits_bound, _TOKENS_PER_BATCH // (num_positions + len(prompts[longest]))))


def _forward(
    model: Any, prompts: list[Sequence[int]], completions: list[Sequence[int]], temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    device = model.device
    completion_ids, mask = (tensor.flip(1) for tensor in left_pad([row[::-1] for row in completions], device))
    looks = looks_of(prompts)
    inputs = prompt_inputs(model, prompts, looks, (completion_ids, mask))
    num_tokens = completion_ids.shape[1]
    # Asking the model for `hidden_states` would keep those of every layer; the backbone's own output is the last.
    capture = ForwardCapture(model)
    try:
        with capture.armed(), right_padded(model), shown(model, looks):
            output = model(
                **inputs,
                position_ids=prompt_positions(model, inputs),
                use_cache=False,
                logits_to_keep=num_tokens + 1,
            )
        hidden_states = capture.take().hidden_states
    finally:
        capture.close()
    is_token = mask.bool()
    # The logits at a position are the distribution of the next token.
    logits = without_image_token(model, output.logits[:, :-1])
    entropy = _entropy(logits, temperature or 1.0).masked_fill(~is_token, 0.0)
    return entropy, hidden_states[:, -num_tokens:], is_token


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """(B, T, V) -> (B, T) float32, row by row so that no second tensor of the full size is made."""
    rows = [torch.special.entr(torch.softmax(row.float() / temperature, dim=-1)).sum(-1) for row in logits]
    return torch.stack(rows)
