"""VPPO (arXiv 2510.09285): the loss of the tokens that depend on the image, more of it in completions that do.

Read in the authors' code (huaixuheqing/VPPO-RL, a23c54b: dp_actor.py, core_algos.py, the script of the 7B model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import SelectionScope, TokenSelector, TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input, MaskedLogProbs
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import choose_tokens, require_scope, require_share, selected_share
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.sight import SurprisalPenalty, require_mask, token_dependence

__all__ = ["PerceptionWeights", "VPPOSettings", "vppo"]


class VPPOSettings(AdvantageSettings, RatioSettings):
    """Those of the authors' script of the 7B model; see `PerceptionWeights`.

    Attributes:
        share: share of the tokens of each completion that learn.
        least_scale: least scale of the advantage, in the completion that depends least on its image.
        entropy_coefficient: coefficient of `SurprisalPenalty` (0.12 in their script of the 8B model).
        mask_share: share of an image's squares that are black.
        mask_patch: side of a square in pixels.
        scope: over which completions the least and the most dependent one are taken. Their code takes those of a
            process's update, and the mean over a micro-batch.
    """

    paper: ClassVar[str | None] = "2510.09285"

    share: float = 0.4
    least_scale: float = 0.9
    entropy_coefficient: float = 0.06
    mask_share: float = 0.5
    mask_patch: int = 14
    scope: SelectionScope = "update"
    clip_high: float = 0.28
    dual_clip: float | None = 3.0
    epsilon: float = 1e-6


def vppo(settings: VPPOSettings) -> Objective:
    """DAPO's loss with `PerceptionWeights`, and a penalty on the surprisal of all tokens."""
    masked = MaskedLogProbs(share=settings.mask_share, patch=settings.mask_patch)
    return Objective(
        name="vppo",
        advantage=settings.advantage,
        token_weights=PerceptionWeights(settings.share, settings.least_scale, masked, settings.scope),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=(*settings.kl("token_mean"), SurprisalPenalty(settings.entropy_coefficient)),
    )


@dataclass(frozen=True)
class PerceptionWeights(TokenSelector, TokenWeights):
    """The ceil(share T) tokens of largest dependence of each completion learn; the others count in the denominator.

    The dependence of a token is `token_dependence`; s of a completion is its mean. The advantage is multiplied by

        least + (most - least) (s - min s) / (max s - min s),    most = least + (1 - least) / (mean of that quotient),

    so that the mean factor over completions is 1; it is 1 for all where the dependences are equal to 1e-6.

    Attributes:
        share: share of the tokens of a completion.
        least_scale: the factor of the completion with the smallest s.
        masked: part of the image that is masked.
        scope: over which completions min, max and mean are taken.
    """

    share: float
    least_scale: float
    masked: MaskedLogProbs
    scope: SelectionScope = "update"

    def __post_init__(self) -> None:
        require_share("share", self.share)
        require_scope(self.scope)
        require_mask(self.masked.share, self.masked.patch)
        if not 0 <= self.least_scale <= 1:
            raise ConfigError(f"least_scale is a factor of the advantage from 0 to 1, but is {self.least_scale}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.masked})

    def columns(self, batch: RolloutBatch, advantages: Tensor) -> Tensor:
        """(P, G, T, 2) the completion's s, and one over its length: a completion counts once, however long."""
        lengths = batch.lengths.clamp(min=1).double()
        scores = token_dependence(batch, self.masked).sum(-1) / lengths
        every = torch.stack([scores, 1.0 / lengths], dim=-1)
        return every.unsqueeze(-2).expand(*batch.mask.shape, 2)

    def choose(self, columns: Tensor) -> Tensor:
        """(N,) the factor of each token's completion."""
        if not len(columns):
            return columns.new_ones(0)
        scores, weights = columns.double().unbind(-1)
        least, most = scores.min(), scores.max()
        if most - least <= 1e-6:
            return torch.ones_like(columns[:, 0])
        placed = (scores - least) / (most - least)
        mean = (placed * weights).sum() / weights.sum()
        highest = self.least_scale + (1.0 - self.least_scale) / (mean + 1e-8)
        return (self.least_scale + placed * (highest - self.least_scale)).to(columns.dtype)

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        dependence = token_dependence(batch, self.masked)
        kept = self._kept(dependence, batch)
        factors = choose_tokens(self, batch, advantages) * kept
        num_tokens = batch.mask.sum().clamp(min=1)
        metrics = selected_share(kept, batch) | {"sight/kl_masked": dependence.sum() / num_tokens}
        return advantages.unsqueeze(-1) * factors.to(advantages.dtype), metrics

    def _kept(self, dependence: Tensor, batch: RolloutBatch) -> Tensor:
        """(P, G, T) 1 for the tokens of each completion that learn; of equal ones the first."""
        order = dependence.masked_fill(~batch.mask, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
        rank = torch.empty_like(order).scatter_(
            -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
        )
        count = torch.ceil(batch.lengths.double() * self.share)
        return ((rank < count.unsqueeze(-1)) & batch.mask).to(dependence.dtype)
