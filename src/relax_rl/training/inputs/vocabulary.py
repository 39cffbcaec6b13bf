"""What can be said of a token only with the whole next-token distribution, which the forward does not keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ModelError
from relax_rl.objectives.entropy_flow import entropy_flow

__all__ = ["VOCABULARY_NEEDS", "vocabulary_statistics"]

VOCABULARY_NEEDS = frozenset({"entropy_flow", "score_features"})
"""The tensors of a `RolloutBatch` that are found here."""

_TOKENS_AT_ONCE = 1024


@torch.no_grad()
def vocabulary_statistics(
    model: Any,
    states: Tensor,
    tokens: Tensor,
    mask: Tensor,
    log_probs: Tensor,
    temperature: float,
    *,
    is_half_precision: bool = False,
) -> dict[str, Tensor]:
    """The distributions made once more from the hidden states, some tokens at a time, without gradient.

    Args:
        model: its output embeddings are the head W.
        states: (B, T, H) final-norm states that predict the tokens.
        tokens: (B, T) int64.
        mask: (B, T) bool.
        log_probs: (B, T) of the tokens, as the forward gave them: the check that nothing else lies between states and
            distribution.
        temperature: of the sampling.
        is_half_precision: the forward computed in 16 bits, which the states do not show where a norm before the head
            gives them back in float32.

    Returns:
        "entropy_flow" (B, T), see `relax_rl.objectives.entropy_flow`; "score_features" (B, H), the mean over the tokens
        of W^T (e_y - pi), which is temperature times the gradient of log pi(y) in the state (arXiv 2512.15687).

    Raises:
        ModelError: when the log-probabilities do not come out, as with a head that caps or scales its logits.
    """
    head = model.get_output_embeddings()
    weight, bias = head.weight.float(), getattr(head, "bias", None)
    bound = 0.2 if is_half_precision or states.dtype != torch.float32 else 1e-3
    flow = torch.zeros(mask.shape, device=states.device)
    features = torch.zeros(len(states), states.shape[-1], device=states.device)
    rows, places = mask.nonzero(as_tuple=True)
    for row, place in zip(rows.split(_TOKENS_AT_ONCE), places.split(_TOKENS_AT_ONCE), strict=True):
        logits = states[row, place].float() @ weight.T
        logits = (logits if bias is None else logits + bias.float()) / temperature
        token = tokens[row, place]
        _check(logits, token, log_probs[row, place], bound)
        flow[row, place] = entropy_flow(logits, token)
        features.index_add_(0, row, weight[token] - logits.softmax(-1) @ weight)
    return {"entropy_flow": flow, "score_features": features / mask.sum(-1, keepdim=True).clamp(min=1)}


def _check(logits: Tensor, token: Tensor, expected: Tensor, bound: float) -> None:
    found = logits.log_softmax(-1).gather(-1, token.unsqueeze(-1)).squeeze(-1)
    if len(found) and not (found - expected.float()).abs().median() <= bound:
        raise ModelError(
            "The next-token distributions cannot be made from this model's hidden states and head (a cap or a scale on "
            "the logits?), and the method needs them; choose another objective or another model."
        )
