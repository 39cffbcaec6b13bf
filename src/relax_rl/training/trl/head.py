"""TRL's fused head on the positions that are scored, and forwards without gradient on rows of like length.

Off Triton devices, TRL projects every position onto the vocabulary, prompt and padding included, and drops what no
label asks for. Nothing of TRL is copied here: its head is given the scored positions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.latent.sites import language_model_of

__all__ = ["in_trimmed_chunks", "scored_positions"]

Scored = tuple[Tensor, Tensor | None, Tensor | None]
"""(B, T) log-probabilities, their (B, T) entropies, and the loss of a router."""

_PER_TOKEN = ("log_probs", "entropy")


@contextmanager
def scored_positions(model: nn.Module) -> Iterator[None]:
    """Inside, the fused head of a model computes what has a label and nothing else; the outputs keep their shapes.

    Args:
        model: with TRL's head, before any distributed wrapper.
    """
    language_model: Any = language_model_of(model)
    if next(language_model.parameters()).device.type != "cpu":
        # On Triton devices TRL does so itself; on others a number of positions that changes compiles again.
        yield
        return
    kept: list[Tensor] = []

    def select_labels(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        labels = kwargs.pop("labels")
        # The state at a position predicts the label after it.
        has_label = torch.zeros_like(labels, dtype=torch.bool)
        has_label[:, :-1] = labels[:, 1:] != -100
        kept.append(has_label)
        return args, kwargs | {"shift_labels": labels[:, 1:][has_label[:, :-1]].unsqueeze(0)}

    def select_states(module: nn.Module, args: Any, output: Any) -> Any:
        states = output.last_hidden_state
        output.last_hidden_state = states.flatten(0, 1).index_select(0, _places(kept[-1])).unsqueeze(0)
        return output

    def spread(module: nn.Module, args: Any, output: Any) -> Any:
        has_label = kept.pop()
        places = _places(has_label)
        for name in _PER_TOKEN:
            values = output.get(name)
            if values is not None:
                whole = values.new_zeros(has_label.numel()).index_copy(0, places, values.squeeze(0))
                output[name] = whole.view(has_label.shape)[:, :-1]
        return output

    handles = [
        language_model.register_forward_pre_hook(select_labels, with_kwargs=True),
        # After whatever else listens at the backbone, and before whatever listens at the head.
        language_model.base_model.register_forward_hook(select_states),
        language_model.register_forward_hook(spread, prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero().squeeze(1)


def in_trimmed_chunks(
    score: Callable[[Tensor, Tensor, int], Scored], ids: Tensor, mask: Tensor, num_kept: int, batch_size: int
) -> Scored:
    """Output of `score` for rows, some at a time, sorted by length and without the columns that are padding in all.

    Args:
        score: takes ids (b, l), mask (b, l) and the number of last positions t; gives (b, t).
        ids, mask: (B, L), padded on both sides of the boundary between prompt and completion.
        num_kept: T.
        batch_size: rows at a time.
    """
    prompt, completion = mask[:, :-num_kept], mask[:, -num_kept:]
    widths = torch.stack([completion.sum(-1), prompt.sum(-1)], dim=-1).tolist()
    order = torch.tensor(sorted(range(len(ids)), key=lambda row: widths[row]), device=ids.device)
    log_probs: Tensor | None = None
    entropies: Tensor | None = None
    for rows in order.split(batch_size):
        t = max(1, int(completion[rows].sum(-1).max()))
        start, end = prompt.shape[1] - int(prompt[rows].sum(-1).max()), prompt.shape[1] + t
        found = score(ids[rows, start:end], mask[rows, start:end], t)
        log_probs = _put(log_probs, rows, found[0], (len(ids), num_kept))
        if found[1] is not None:
            entropies = _put(entropies, rows, found[1], (len(ids), num_kept))
    assert log_probs is not None
    return log_probs, entropies, None


def _put(whole: Tensor | None, rows: Tensor, part: Tensor, shape: tuple[int, int]) -> Tensor:
    whole = part.new_zeros(shape) if whole is None else whole
    whole[rows, : part.shape[1]] = part
    return whole
