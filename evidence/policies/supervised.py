"""Supervised learning, as the starting policies of the studies are made by it: batches, a learning rate, updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn


def updates(
    parameters: Iterable[nn.Parameter], learning_rate: float, steps: int, warm_up: float, cool_down: float
) -> Iterator[Callable[[Tensor], None]]:
    """What is to be called with the loss, once for each of some updates by AdamW, gradients clipped at norm 1.

    Args:
        parameters: that learn.
        learning_rate: the highest.
        steps: updates.
        warm_up, cool_down: how many of them the learning rate rises at the start, and falls at the end.
    """
    learned = list(parameters)
    optimizer = torch.optim.AdamW(learned, lr=learning_rate, betas=(0.9, 0.98))

    def update(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / warm_up, (steps - step) / cool_down)
        yield update


def right_padded(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad_id: int
) -> tuple[Tensor, Tensor]:
    """Ids and labels (B, T) of prompts with their completions, padded on the right; only the completion is learned."""
    pairs = list(zip(prompts, completions, strict=True))
    width = max(len(prompt) + len(completion) for prompt, completion in pairs)
    ids = torch.full((len(pairs), width), pad_id)
    labels = torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(pairs):
        start, end = len(prompt), len(prompt) + len(completion)
        ids[row, :end] = torch.tensor([*prompt, *completion])
        labels[row, start:end] = torch.tensor(completion)
    return ids, labels
