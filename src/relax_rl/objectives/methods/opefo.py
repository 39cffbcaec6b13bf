"""OPEFO (arXiv 2605.11491): rises and falls of the entropy in balance.

A policy-gradient step of size eta on token a with advantage A changes the entropy of that token's distribution by
-eta A E_a to first order, with E the input `ENTROPY_FLOW`. E is positive for a token likelier than usual: good news of
it sharpens the distribution, bad news flattens it. The paper's Eq. 7 to 9 were not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import SelectionScope, Surrogate, TokenSelector, TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY_FLOW, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import choose_tokens, require_scope, selected_share
from relax_rl.objectives.settings import AdvantageSettings
from relax_rl.objectives.surrogates import clip_metrics, of_each_token

__all__ = ["BalancedFlow", "LogProbSurrogate", "OPEFOSettings", "opefo"]


class OPEFOSettings(AdvantageSettings):
    """See `BalancedFlow`."""

    paper: ClassVar[str | None] = "2605.11491"
    verified: ClassVar[bool] = False

    scope: SelectionScope = "update"


def opefo(settings: OPEFOSettings) -> Objective:
    """Strictly on-policy: no ratio and no clip, so one update a rollout batch."""
    return Objective(
        name="opefo",
        advantage=settings.advantage,
        token_weights=BalancedFlow(settings.scope),
        surrogate=LogProbSurrogate(),
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class BalancedFlow(TokenSelector, TokenWeights):
    """OPEFO: the gains and losses of entropy are scaled until they balance (arXiv 2605.11491).

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

    def __post_init__(self) -> None:
        require_scope(self.scope)

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY_FLOW})

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 1) what each token's update does to the entropy."""
        return (-advantages.unsqueeze(-1) * batch.required(ENTROPY_FLOW).detach()).unsqueeze(-1)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the weight of each token."""
        flow = columns[:, 0].double()
        rises, falls = flow.clamp(min=0).sum(), -flow.clamp(max=0).sum()
        total = rises + falls
        # Where nothing flows there is nothing to balance: 0 / 0 would be NaN, and the weight of every token with it.
        balance = torch.where(total > 0, (falls - rises) / total.clamp(min=1e-300), 0.0)
        # Where all tokens push the same way the balance is 1 or -1, and the formula gives them weight 0.
        return 1 + balance * flow.sign()

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = choose_tokens(self, batch, advantages)
        flow = self.columns(batch, advantages).squeeze(-1)  # 0 where masked
        count = batch.mask.sum().clamp(min=1)
        metrics = {
            "entropy/flow_up": flow.clamp(min=0).sum() / count,
            "entropy/flow_down": flow.clamp(max=0).sum() / count,
        }
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), metrics | selected_share(weights, batch)


@dataclass(frozen=True)
class LogProbSurrogate(Surrogate):
    """-A log_probs: the policy gradient itself, without ratio or clip. Meant for one update a rollout batch."""

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-token loss (P, G, T) for advantages (P, G) or (P, G, T); nothing is ever clipped."""
        nothing = torch.zeros_like(batch.mask)
        log_probs = batch.log_probs.masked_fill(~batch.mask, 0.0)
        return -of_each_token(advantages) * log_probs, clip_metrics(nothing, nothing, batch)
