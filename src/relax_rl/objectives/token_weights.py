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

__all__ = ["QUOTED_GRAMS", "EntropyShaping", "ForkingTokens", "KeptDenominator", "PlanningCredit"]

KeptDenominator = Literal["kept", "all"]

QUOTED_GRAMS = ("we can use the fact that", "let's try a different approach", "but the problem mentions that")
"""The strategic grams that HICRA's paper quotes."""


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


@dataclass(frozen=True)
class PlanningCredit:
    """HICRA: planning tokens get more credit when it is good and less blame when it is not (arXiv 2509.03646, sec. 3).

    A_t = A + alpha |A| at the tokens of planning phrases, A elsewhere. Which those are is a list of "strategic grams",
    three to five words long, that the authors drew from correct solutions by clustering and looked through by hand.
    Their list is not in the text of the paper and their repository holds no code, so it is yours to give; the default
    are the three phrases that the paper quotes. Whoever fills `RolloutBatch.planning_mask` reads ``grams``.

    Attributes:
        alpha: 0.2 (paper).
        grams: the phrases; upper and lower case are the same.
    """

    alpha: float = 0.2
    grams: tuple[str, ...] = QUOTED_GRAMS

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"alpha must be at least 0 and below 1, but is {self.alpha}.")
        if not self.grams or not all(isinstance(gram, str) and gram.split() for gram in self.grams):
            raise ConfigError(f"grams must be a list of phrases, but is {list(self.grams)!r}.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"planning_mask"})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        planning = batch.required("planning_mask")
        advantage = advantages.unsqueeze(-1)
        return advantage + self.alpha * advantage.abs() * planning, selected_share(planning, batch)
