"""How the final state of one token moves that of the next: Jacobian-vector products of a language model, without a fit.

In a decoder, the final state h_t enters the next forward pass in one way alone: it decides the next token. (The layers
read keys and values of earlier *layers*, which h_t does not change.) The map is therefore

    h_{t+1} = D(E[x_{t+1}] + sum_v (p_v(h) - p_v(h_t)) E[v]; what was read before),    p(h) = softmax(head(h) /
    temperature)

with D the decoder and E the embeddings: at h = h_t it is the token that was drawn, and its derivative is that of the
expected embedding of the next token. What was read before t is held fixed. Other ways of feeding a state back, such as
continuous thoughts, are maps that :func:`~relax_rl.koopman.spectra.lyapunov.lyapunov_exponents` takes as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache

from relax_rl.errors import ConfigError, DataError, ModelError
from relax_rl.latent.caches import CachePlan, reading_plan, repeat_rows
from relax_rl.latent.capture import evaluation_mode
from relax_rl.latent.contract.files import first_line
from relax_rl.latent.sites import find_decoder, language_model_of

__all__ = ["TokenJacobian", "token_jacobians"]

_WITH_KEYS = ("attention", "sliding")
_LOGIT_TOLERANCE = 1e-3
"""Largest difference, also relative, between the model's own log-probabilities and those of its head."""


@dataclass(frozen=True)
class TokenJacobian:
    """J = d h_{t+1} / d h_t at one token of a text, as products; H columns or rows are never formed.

    Attributes:
        position: t, in the text.
        state: h_t, (H,) float64.
        push: V (H, K) float64 -> J V; K tokens are read, twice.
        pull: U (H, K) -> J^T U.
    """

    position: int
    state: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


def token_jacobians(
    model: Any, token_ids: Sequence[int], *, start: int = 1, temperature: float = 1.0
) -> Iterator[TokenJacobian]:
    """The Jacobian at every token of a text that has a next one, from `start` on, one after the other.

    Use the products of one before you take the next: they share what the model keeps of the text.

    Args:
        model: a Hugging Face causal language model, of any dtype. In float32 a product has about six digits of its
            largest direction, and fewer of the others by the ratio of their singular values.
        token_ids: the text.
        start: number of first tokens that are read before; at least 1.
        temperature: temperature of the next token's distribution, above 0.

    Raises:
        ConfigError: a temperature or a start out of range.
        DataError: a text that ends before `start` has a next token.
        ModelError: a model whose logits are not its head applied to the final state, or that takes no embeddings.
    """
    if not temperature > 0:
        raise ConfigError(
            f"The Jacobian needs a temperature above 0 (greedy choice has no derivative), got {temperature}."
        )
    if not 1 <= start < len(token_ids):
        raise DataError(
            f"A text of {len(token_ids)} tokens of which {start} are read before has no token with a next one; give a "
            "longer text."
        )
    reader = _Reader(model, token_ids, start, temperature)
    while reader.position + 1 < len(token_ids):
        yield reader.jacobian()
        reader.advance()


class _Reader:
    """The text up to a token, and the map from its final state to the next."""

    def __init__(self, model: Any, token_ids: Sequence[int], start: int, temperature: float) -> None:
        language_model = language_model_of(model)
        self._model, self._language_model = model, language_model
        self._decoder: Any = find_decoder(model)
        self._plan: CachePlan = reading_plan(language_model.config)
        self._temperature = temperature
        self._head = language_model.get_output_embeddings()
        embedding = language_model.get_input_embeddings()
        if self._head is None or embedding is None:
            raise ModelError(f"{type(language_model).__name__} has no head or no embeddings of tokens to go through.")
        self._reshape = _logit_rule(language_model.config.get_text_config(decoder=True))
        device = next(embedding.parameters()).device
        # By the module and not by its weight: some families scale what leaves it.
        with torch.no_grad():
            self._table = embedding(torch.arange(self._head.weight.shape[0], device=device))
        self._ids = torch.tensor([list(token_ids)], device=device)
        self._cache = DynamicCache(config=language_model.config.get_text_config(decoder=True))
        self.position = start - 1
        self._state = self._read(slice(0, start))
        self._check(language_model, start)

    def advance(self) -> None:
        """One token on."""
        self.position += 1
        self._state = self._read(slice(self.position, self.position + 1))

    def jacobian(self) -> TokenJacobian:
        state = self._state

        def push(frame: Tensor) -> Tensor:
            rows = frame.mT.to(state)
            with self._reading(), self._deriving():
                _, carried, *_ = torch.func.jvp(self._next, (state.expand_as(rows).clone(),), (rows,))
            return carried.mT.double()

        def pull(frame: Tensor) -> Tensor:
            rows = frame.mT.to(state)
            with self._reading(), self._deriving():
                _, pull_back, *_ = torch.func.vjp(self._next, state.expand_as(rows))
                return pull_back(rows)[0].mT.double()

        return TokenJacobian(self.position, state[0].double(), push, pull)

    def _next(self, states: Tensor) -> Tensor:
        """h_{t+1} (K, H) of states (K, H) in the place of h_t."""
        change = (self._probabilities(states) - self._probabilities(self._state).detach()).to(self._table.dtype)
        token = self._table[self._ids[0, self.position + 1]]
        embedded = (token + change @ self._table).unsqueeze(1)
        if self._plan.kind in _WITH_KEYS:
            # A copy for each call: the decoder adds the new token to what it is given.
            cache = copy.deepcopy(self._cache)
            repeat_rows(cache, len(states), 1, states.device)
            return self._decoder(inputs_embeds=embedded, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        # A recurrent state is updated in place, which forward-mode derivatives do not survive: read all of it again.
        before = self._table[self._ids[:, : self.position + 1]].expand(len(states), -1, -1)
        whole = torch.cat([before, embedded], 1)
        return self._decoder(inputs_embeds=whole, use_cache=False).last_hidden_state[:, -1]

    def _probabilities(self, states: Tensor) -> Tensor:
        # In float64: the derivative of a nearly certain token, p (g - sum p g), is of size 1 - p, and both terms are
        # not. In float32 that difference is rounding, which another number of threads changes.
        return torch.softmax(self._logits(states) / self._temperature, -1)

    def _logits(self, states: Tensor) -> Tensor:
        return self._reshape(self._head(states)).double()

    def _read(self, places: slice) -> Tensor:
        """The final state (1, H) of the last of these tokens."""
        with self._reading():
            if self._plan.kind in _WITH_KEYS:
                read = self._decoder(input_ids=self._ids[:, places], past_key_values=self._cache, use_cache=True)
            else:
                read = self._decoder(input_ids=self._ids[:, : places.stop], use_cache=False)
        return read.last_hidden_state[:, -1]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # Forward-mode derivatives exist of plain attention and plain experts alone; the fused kernels have none.
        with evaluation_mode(self._model), sdpa_kernel(SDPBackend.MATH), _plain_experts(self._language_model):
            yield

    @contextmanager
    def _deriving(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # also NotImplementedError
            raise ModelError(
                f"{type(self._language_model).__name__} has an operation without forward-mode derivatives "
                f"({first_line(error)}), so its Jacobian cannot be measured; use a model of another type."
            ) from error

    def _check(self, language_model: Any, start: int) -> None:
        """Whether the logits are what is derived here. A family with a rule of its own must not pass unnoticed."""
        with self._reading():
            own = language_model(input_ids=self._ids[:, :start], use_cache=False).logits[:, -1].double().log_softmax(-1)
            ours = self._logits(self._state).log_softmax(-1)
        if own.shape != ours.shape or not torch.allclose(own, ours, rtol=_LOGIT_TOLERANCE, atol=_LOGIT_TOLERANCE):
            raise ModelError(
                f"The logits of {type(language_model).__name__} are not its head applied to the final state, so that "
                "its Jacobian through the next token is not known; use a model with a plain head."
            )


@contextmanager
def _plain_experts(language_model: Any) -> Iterator[None]:
    """Inside, a mixture of experts runs without its fused kernels; other models are left as they are."""
    if not hasattr(language_model, "get_experts_implementation"):  # transformers before 5.6
        yield
        return
    usual = language_model.get_experts_implementation()
    plain = {part: None if name is None else "eager" for part, name in usual.items()}
    if plain == usual:
        yield
        return
    language_model.set_experts_implementation(plain)
    try:
        yield
    finally:
        language_model.set_experts_implementation(usual)


def _logit_rule(config: Any) -> Callable[[Tensor], Tensor]:
    """A model's changes to the output of its head, by the names that transformers' families have for them."""
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)

    def reshape(logits: Tensor) -> Tensor:
        logits = logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return reshape
