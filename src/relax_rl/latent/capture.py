"""Recording what a forward pass that is being made anyway computes: hidden states, log-probabilities, entropies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relax_rl.errors import ModelError
from relax_rl.latent.sites import FINAL_NORM, find_decoder, hook_site, language_model_of, resolve_sites

__all__ = ["ForwardCapture", "ForwardRecord", "StateCapture", "evaluation_mode"]


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
        # Two hooks, because TRL's fused head returns log-probs and entropy but no states. These are seen at the
        # decoder, before the head, with their graph. Not at the backbone: OPT's own forward goes around it.
        self._handles = [
            hook_site(model, FINAL_NORM, self._on_decoder),
            language_model_of(model).register_forward_hook(self._on_language_model),
        ]

    def _on_decoder(self, states: Tensor) -> None:
        # `generate` runs the same modules once a token. Unarmed, its states must not pile up here.
        if self._is_armed:
            self._states.append(states)

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
        # Let go at once: the tensors hold the graph of the whole forward, whose memory would outlive the backward pass.
        states, outputs = self._states[:], self._outputs[:]
        self._states.clear()
        self._outputs.clear()
        # Exactly one of each. Two forwards in a block (a second model, a split batch) would pair the states of one with
        # the log-probs of the other; none means that the hooks were compiled away.
        if len(states) != 1 or len(outputs) != 1:
            raise ModelError(
                f"The objective needs the hidden states of one forward pass, but the decoder ran {len(states)} times "
                f"and the language model {len(outputs)} times where they could be seen; run the model once, as it is: "
                "neither compiled, nor split, nor wrapped in one that calls its layers itself."
            )
        return ForwardRecord(states[0], getattr(outputs[0], "log_probs", None), getattr(outputs[0], "entropy", None))

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()


class StateCapture:
    """Hooks at named sites of a model's decoder, which listen only inside :meth:`armed`.

    Nothing is computed and no state of another site is kept: each hook notes the tensor that passes by, detached. A
    decoder of several devices leaves each site's states on the device of its layer.

    Args:
        model: a Hugging Face causal or image-text language model, possibly behind PEFT.
        sites: names from :mod:`relax_rl.latent.sites`; "all" for every one.

    Raises:
        ConfigError: a site that this model does not have.
    """

    def __init__(self, model: nn.Module, sites: Sequence[str]) -> None:
        self.sites = resolve_sites(model, sites)
        self._decoder = find_decoder(model)
        self._states: dict[str, list[Tensor]] = {site: [] for site in self.sites}
        self._num_forwards = 0
        self._is_armed = False
        # The decoder is counted on its own: sites that never fired could not say that there was a forward at all.
        self._handles = [self._decoder.register_forward_pre_hook(self._count)]
        self._handles += [hook_site(model, site, self._receiver(site)) for site in self.sites]

    def _count(self, module: nn.Module, args: Any) -> None:
        self._num_forwards += self._is_armed

    def _receiver(self, site: str) -> Any:
        def receive(states: Tensor) -> None:
            if self._is_armed:
                # Under gradient checkpointing a layer runs again in the backward pass; the block is closed by then.
                self._states[site].append(states.detach())

        return receive

    @contextmanager
    def armed(self) -> Iterator[StateCapture]:
        """Listen during the block; nothing of an earlier block is kept."""
        self._clear()
        self._is_armed = True
        try:
            yield self
        finally:
            self._is_armed = False

    def take(self, num_forwards: int | None = None) -> dict[str, Tensor]:
        """The states (B, T, H) of each site, the forwards of the last block joined along T; not kept here any longer.

        Args:
            num_forwards: number of times that the decoder must have run; None is once or more.

        Raises:
            ModelError: the decoder ran another number of times, or a site did not fire exactly once in each of them.
        """
        # Emptied before the checks, so that a block that fails leaves nothing to the next.
        states, num_runs = self._states, self._num_forwards
        self._clear()
        name = type(self._decoder).__name__
        if num_runs == 0 or num_forwards not in (None, num_runs):
            due = "at least once" if num_forwards is None else f"{num_forwards} times"
            raise ModelError(
                f"{name} should have run {due} while its hidden states were captured, but ran {num_runs} times; run "
                "the model itself, neither compiled nor exported, inside the block."
            )
        for site, fired in states.items():
            if len(fired) != num_runs:
                raise ModelError(
                    f"The hook at '{site}' of {name} fired {len(fired)} times in {num_runs} forward passes, where once "
                    f"in each was due; the others fired { ({s: len(f) for s, f in states.items() if s != site}) }. A "
                    "model that skips or fuses layers hides its states: choose another site. The states of one that "
                    "repeats layers lie along another axis: relax spectrum --axis cycles."
                )
        # While it generates, each forward brings the positions that are new, so that joined along T they are the
        # sequence.
        return {site: fired[0] if num_runs == 1 else torch.cat(fired, dim=1) for site, fired in states.items()}

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> StateCapture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _clear(self) -> None:
        self._states = {site: [] for site in self.sites}
        self._num_forwards = 0


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout and no graph inside; the model's training flag is put back afterwards."""
    # One flag for all: `train` sets every part alike, also one that the caller had put in another mode.
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
