"""Statistics of a token that need the whole next-token distribution, which the forward does not keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ModelError
from relax_rl.training.inputs.provider import MicroBatch, Provider

__all__ = ["EntropyFlow", "ScoreFeatures", "entropy_flow", "vocabulary_statistics"]

_TOKENS_AT_ONCE = 1024


def entropy_flow(logits: Tensor, tokens: Tensor) -> Tensor:
    """E_a, (...), for logits (..., V) at the sampling temperature and the sampled tokens (...), int64.

    A policy-gradient step of size eta on token a with advantage A moves the logits z by eta A (1[v = a] - pi_v). To
    first order the entropy then changes by -eta A E_a, with

        E_a = pi_a (log pi_a + H) - sum_x pi_x^2 (log pi_x + H).

    The identity is exact for a table of logits (arXiv 2505.22617, Lemma 1, with the logit step of one token); in a
    network the tokens share parameters.
    """
    log_probs = logits.log_softmax(dim=-1)
    probs = log_probs.exp()
    # 0 log 0 is 0, also where a logit is -inf.
    surprise = torch.where(probs > 0, log_probs, 0.0)
    excess = surprise - (probs * surprise).sum(-1, keepdim=True)
    weighted = probs * excess
    return weighted.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - (probs * weighted).sum(-1)


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
        temperature: temperature of the sampling.
        is_half_precision: the forward computed in 16 bits, which the states do not show where a norm before the head
            gives them back in float32.

    Returns:
        "entropy_flow" (B, T), see `entropy_flow`; "score_features" (B, H), the mean over the tokens
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
    # NaN is no difference: the guard skips such an update, with a name.
    if (found - expected.float()).abs().nanmedian() > bound:
        raise ModelError(
            "The next-token distributions cannot be made from this model's hidden states and head (a cap or a scale on "
            "the logits?), and the method needs them; choose another objective or another model."
        )


class _Statistics(Provider):
    """The vocabulary's statistics of a micro-batch."""

    def _measured(self, micro: MicroBatch) -> dict[str, Tensor]:
        if micro.forward.log_probs is None:
            raise ModelError("TRL's fused head gave no log-probabilities; this version of TRL does not fit.")
        args = self.trainer.args
        return vocabulary_statistics(
            self.trainer.policy,
            micro.predicting_states.detach(),
            micro.rows["completion_ids"],
            micro.mask,
            micro.forward.log_probs[:, -micro.mask.shape[1] :].detach(),
            self.trainer.temperature,
            is_half_precision=args.bf16 or args.fp16,
        )


class EntropyFlow(_Statistics):
    """See `entropy_flow`."""

    def tensor(self, micro: MicroBatch) -> Tensor:
        return self._measured(micro)["entropy_flow"]


class ScoreFeatures(_Statistics):
    """See `vocabulary_statistics`."""

    def tensor(self, micro: MicroBatch) -> Tensor:
        return self._measured(micro)["score_features"]
