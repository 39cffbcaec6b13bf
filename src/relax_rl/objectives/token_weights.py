"""How a completion's advantage is handed out to its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.entropy import require_entropy
from relax_rl.objectives.selection import (
    SelectionScope,
    choose_tokens,
    largest,
    require_scope,
    require_share,
    selected_share,
)

__all__ = ["EntropyShaping", "ForkingTokens", "KeptDenominator"]

KeptDenominator = Literal["kept", "all"]


@dataclass(frozen=True)
class EntropyShaping:
    """More advantage for tokens of high entropy: A_t = A + min(scale sg[H_t], |A| / kappa) (arXiv 2506.14758).

    With kappa > 1 no advantage changes its sign, and A = 0 stays 0. The entropy is the current policy's, in nats; sg
    stops the gradient.

    Attributes:
        scale: 0.4 (the paper's alpha for GRPO; 0.1 for PPO).
        kappa: 2 (paper).
    """

    scale: float = 0.4
    kappa: float = 2.0

    def __post_init__(self) -> None:
        if self.scale < 0 or self.kappa <= 1:
            raise ConfigError(
                f"Entropy shaping needs scale >= 0 and kappa > 1, but they are {self.scale} and {self.kappa}; "
                "a smaller kappa would turn advantages around."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        advantage = advantages.unsqueeze(-1)
        bonus = self.scale * require_entropy(batch).detach()
        return advantage + torch.minimum(bonus, advantage.abs() / self.kappa), {}


@dataclass(frozen=True)
class ForkingTokens:
    """Only the tokens of highest entropy learn: the "80/20 rule" (arXiv 2506.01939).

    The ceil(share N) tokens of highest entropy are kept. The entropy is the current policy's.

    Attributes:
        share: 0.2 (paper).
        denominator: "kept" divides by the kept tokens (the authors' code): each weighs N / ceil(share N), so that the
            mean over all tokens is that over the kept ones. "all" leaves the weight at 1, as TRL's
            ``top_entropy_quantile`` does: a five times smaller gradient at a share of 0.2.
        scope: over which tokens the share is taken; the authors' code takes a micro-batch.
    """

    share: float = 0.2
    denominator: KeptDenominator = "kept"
    scope: SelectionScope = "update"

    is_idle_on_policy = False

    def __post_init__(self) -> None:
        require_share("share", self.share)
        require_scope(self.scope)
        if self.denominator not in ("kept", "all"):
            raise ConfigError(f"denominator is {self.denominator!r}; choose one of kept, all.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 1) entropy."""
        return require_entropy(batch).detach().unsqueeze(-1)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the weight of each token."""
        num_kept = math.ceil(self.share * len(columns))
        weight = len(columns) / max(num_kept, 1) if self.denominator == "kept" else 1.0
        return weight * largest(columns[:, 0], num_kept).to(columns.dtype)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = choose_tokens(self, batch, advantages)
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), selected_share(weights, batch)
