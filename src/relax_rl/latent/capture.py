"""Recording what a forward pass that is being made anyway computes: hidden states, log-probabilities, entropies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from relax_rl.errors import ModelError

__all__ = ["ForwardCapture", "ForwardRecord", "find_backbone"]


def find_backbone(model: nn.Module) -> nn.Module:
    """The module of a causal language model whose output is the final-norm hidden state (before the LM head).

    Raises:
        ModelError: when the model does not keep a backbone apart from its head.
    """
    language_model = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    backbone = getattr(language_model, "base_model", None)
    if not isinstance(backbone, nn.Module) or backbone is language_model:
        raise ModelError(
            f"{type(language_model).__name__} has no backbone apart from its head (no `base_model`), so its hidden "
            "states cannot be captured; use a Hugging Face causal language model."
        )
    return backbone


@dataclass(frozen=True)
class ForwardRecord:
    """One forward pass.

    Attributes:
        hidden_states: (B, L, H) final-norm output at every position, with gradient.
        log_probs: (B, L - 1) of the token that follows each position, or None where the head does not give them.
        entropy: (B, L - 1) in nats, likewise.
    """

    hidden_states: Tensor
    log_probs: Tensor | None = None
    entropy: Tensor | None = None


class ForwardCapture:
    """Hooks on a model that listen only when armed (the model also runs while it generates).

    Args:
        model: a causal language model, possibly behind PEFT, before any distributed wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        self._states: list[Tensor] = []
        self._outputs: list[Any] = []
        self._is_armed = False
        language_model = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
        self._handles = [
            find_backbone(model).register_forward_hook(self._on_backbone),
            language_model.register_forward_hook(self._on_language_model),
        ]

    def _on_backbone(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._is_armed:
            self._states.append(output.last_hidden_state)

    def _on_language_model(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._is_armed:
            self._outputs.append(output)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Listen during the block; nothing of an earlier block is kept."""
        self._states.clear()
        self._outputs.clear()
        self._is_armed = True
        try:
            yield
        finally:
            self._is_armed = False

    def take(self) -> ForwardRecord:
        """The one forward of the last block; the graph is not kept here afterwards.

        Raises:
            ModelError: when the model ran not exactly once while armed.
        """
        states, outputs = self._states[:], self._outputs[:]
        self._states.clear()
        self._outputs.clear()
        if len(states) != 1 or len(outputs) != 1:
            raise ModelError(
                f"The objective needs the hidden states of one forward pass, but the hook on the backbone fired "
                f"{len(states)} times and the one on the language model {len(outputs)} times; a compiled, fused or "
                "split forward hides them, so switch that option off."
            )
        return ForwardRecord(states[0], getattr(outputs[0], "log_probs", None), getattr(outputs[0], "entropy", None))

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
