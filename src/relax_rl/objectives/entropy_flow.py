"""How the update of one sampled token moves the entropy of the distribution that it was drawn from.

A policy-gradient step of size eta on token a with advantage A moves the logits z by eta A (1[v = a] - pi_v). To first
order the entropy then changes by -eta A E_a, with

    E_a = pi_a (log pi_a + H) - sum_x pi_x^2 (log pi_x + H).

E is positive for a token likelier than usual: good news of it sharpens the distribution, bad news flattens it. The
identity is exact for a table of logits (arXiv 2505.22617, Lemma 1, with the logit step of one token); in a network the
tokens share parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.selection import SelectionScope, choose_tokens, require_scope, selected_share
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["BalancedFlow", "LogProbSurrogate", "entropy_flow"]


def entropy_flow(logits: Tensor, tokens: Tensor) -> Tensor:
    """E_a, (...), for logits (..., V) at the sampling temperature and the sampled tokens (...), int64."""
    log_probs = logits.log_softmax(dim=-1)
    probs = log_probs.exp()
    # 0 log 0 is 0, also where a logit is -inf.
    surprise = torch.where(probs > 0, log_probs, 0.0)
    excess = surprise - (probs * surprise).sum(-1, keepdim=True)
    weighted = probs * excess
    return weighted.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - (probs * weighted).sum(-1)


@dataclass(frozen=True)
class BalancedFlow:
    """OPEFO: what raises the entropy and what lowers it are scaled until they balance (arXiv 2605.11491).

    Token t would change the entropy by -A_t E_t. With M+ the sum of the rises and M- that of the falls over the tokens
    of the update, rises weigh 1 + lambda and falls 1 - lambda,

        lambda = (M- - M+) / (M- + M+),    so that (1 + lambda) M+ = (1 - lambda) M-.

    The paper's Eq. 7 to 9 were not seen. This is the one lambda in (-1, 1) for which the net flow is zero, which is
    what the paper says that its lambda does. Where all tokens push the same way no lambda balances them; the formula
    then gives them weight 0.

    Attributes:
        scope: over which tokens the flows are summed.
    """

    scope: SelectionScope = "update"

    is_idle_on_policy = False

    def __post_init__(self) -> None:
        require_scope(self.scope)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy_flow"})

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 1) what each token's update does to the entropy."""
        return (-advantages.unsqueeze(-1) * batch.required("entropy_flow").detach()).unsqueeze(-1)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the weight of each token."""
        flow = columns[:, 0].double()
        rises, falls = flow.clamp(min=0).sum(), -flow.clamp(max=0).sum()
        total = rises + falls
        balance = torch.where(total > 0, (falls - rises) / total.clamp(min=1e-300), 0.0)
        return 1 + balance * flow.sign()

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = choose_tokens(self, batch, advantages)
        flow = self.columns(batch, advantages).squeeze(-1).masked_fill(~batch.mask, 0.0)
        count = batch.mask.sum().clamp(min=1)
        metrics = {
            "entropy/flow_up": flow.clamp(min=0).sum() / count,
            "entropy/flow_down": flow.clamp(max=0).sum() / count,
        }
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), metrics | selected_share(weights, batch)


@dataclass(frozen=True)
class LogProbSurrogate:
    """-A log_probs: the policy gradient itself, without ratio or clip. Meant for one update a rollout batch."""

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T); nothing is ever clipped."""
        nothing = torch.zeros_like(batch.mask)
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        return -of_each_token(advantages) * log_probs, clip_metrics(nothing, nothing, batch)
