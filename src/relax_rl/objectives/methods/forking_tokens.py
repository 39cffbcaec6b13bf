"""The 80/20 rule (arXiv 2506.01939): DAPO's loss on the fifth of tokens with the highest entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import SelectionScope, TokenSelector, TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import ENTROPY, Input
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import choose_tokens, largest, require_scope, require_share, selected_share
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["ForkingTokens", "ForkingTokensSettings", "forking_tokens"]


KeptDenominator = Literal["kept", "all"]


class ForkingTokensSettings(AdvantageSettings, RatioSettings):
    """The paper's; see `ForkingTokens`. ``scope="micro_batch"`` chooses as the authors' code does."""

    paper: ClassVar[str | None] = "2506.01939"

    share: float = 0.2
    denominator: KeptDenominator = "kept"
    scope: SelectionScope = "update"
    clip_high: float = 0.28


def forking_tokens(settings: ForkingTokensSettings) -> Objective:
    """DAPO's loss with `ForkingTokens`. A KL acts on all tokens."""
    return Objective(
        name="forking_tokens",
        advantage=settings.advantage,
        token_weights=ForkingTokens(settings.share, settings.denominator, settings.scope),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


@dataclass(frozen=True)
class ForkingTokens(TokenSelector, TokenWeights):
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

    def __post_init__(self) -> None:
        require_share("share", self.share)
        require_scope(self.scope)
        if self.denominator not in ("kept", "all"):
            raise ConfigError(f"denominator is {self.denominator!r}; choose one of kept, all.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({ENTROPY})

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 1) entropy."""
        return batch.required(ENTROPY).detach().unsqueeze(-1)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the weight of each token."""
        num_kept = math.ceil(self.share * len(columns))
        # TokenMean divides by all N tokens. The weight N / kept turns that into the mean over the kept ones.
        weight = len(columns) / max(num_kept, 1) if self.denominator == "kept" else 1.0
        return weight * largest(columns[:, 0], num_kept).to(columns.dtype)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        weights = choose_tokens(self, batch, advantages)
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), selected_share(weights, batch)
