"""The hidden states of one forward inside verl's engine, packed or padded, as one row for each token."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.sites import FINAL_NORM, hook_site

__all__ = ["ForwardStates", "of_responses"]


class ForwardStates:
    """A hook on the decoder that listens while it is armed.

    Args:
        model: a causal language model before LoRA and FSDP wrap it; the hook stays on the module that they keep.
    """

    def __init__(self, model: nn.Module) -> None:
        self._states: list[Tensor] = []
        self._is_armed = False
        hook_site(model, FINAL_NORM, self._on_states)

    def _on_states(self, states: Tensor) -> None:
        if self._is_armed:
            self._states.append(states)

    @contextmanager
    def armed(self) -> Generator[None]:
        """Listen during the block."""
        self._states.clear()
        self._is_armed = True
        try:
            yield
        finally:
            self._is_armed = False
            self._states.clear()

    def take(self) -> Tensor:
        """(B, L, H) of the one forward since the block began, with gradient.

        Raises:
            ModelError: the decoder ran another number of times.
        """
        states, self._states = self._states, []
        if len(states) != 1:
            raise ModelError(
                f"The objective needs the hidden states of one forward, but the decoder ran {len(states)} times where "
                "they could be seen; leave compilation of the model off."
            )
        return states[0]


def of_responses(values: Tensor, offsets: Tensor, lengths: Tensor, width: int, before: int) -> Tensor:
    """(B, T, ...) the values at the responses of packed sequences, 0 where a response has ended.

    Args:
        values: (N, ...) one row for each token of all sequences, end to end.
        offsets: (B + 1,) where each sequence begins; each ends in its response.
        lengths: (B,) tokens of each response.
        width: T.
        before: places before the response's tokens: 0 for their own, 1 for those that predict them.
    """
    steps = torch.arange(width, device=values.device)
    is_token = steps < lengths.unsqueeze(-1)
    places = (offsets[1:] - lengths - before).unsqueeze(-1) + steps
    found = values[places.clamp(0, len(values) - 1)]
    return torch.where(is_token.view(*is_token.shape, *[1] * (found.dim() - 2)), found, 0.0)
