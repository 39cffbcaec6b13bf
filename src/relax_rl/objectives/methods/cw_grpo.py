"""CW-GRPO (arXiv 2605.11538): extreme covariances weigh less, by a Gaussian kernel.

Known from a note on the paper; no code is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import covariance_columns, token_covariance
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["CWGRPOSettings", "CovarianceKernel", "cw_grpo"]


class CWGRPOSettings(AdvantageSettings, RatioSettings):
    """GRPO's; `CovarianceKernel` has nothing to set."""

    paper: ClassVar[str | None] = "2605.11538"
    verified: ClassVar[bool] = False


def cw_grpo(settings: CWGRPOSettings) -> Objective:
    """GRPO's loss with `CovarianceKernel`."""
    return Objective(
        name="cw_grpo",
        advantage=settings.advantage,
        token_weights=CovarianceKernel(),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class CovarianceKernel(TokenWeights):
    """CW-GRPO: a Gaussian kernel takes advantage off the tokens of extreme covariance (arXiv 2605.11538).

        w_t = exp(-cov_t^2 / (2 sigma^2)),    A_t = w_t N / (sum w) A,

    with means, sigma = sqrt(mean cov^2 - (mean cov)^2), N and the sum over the tokens of the group, so that it is the
    same however an update is cut. There is nothing to set. Known from a note on the paper; no code is out, and whether
    its sigma divides by N or N - 1 is not said there.
    """

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        columns = covariance_columns(batch, advantages)
        weights = torch.zeros_like(columns[..., 0])
        # Group by group: the statistics are those of a group's own tokens, so no cut of the update changes them.
        for group, mask, weight in zip(columns, batch.mask, weights, strict=True):
            if mask.any():
                weight[mask] = self.weights(group[mask]).to(weight.dtype)
        mean_square = weights[batch.mask].square().mean() if batch.mask.any() else weights.new_tensor(1.0)
        # Kish: what share of the tokens would, weighted alike, count for as much.
        metrics = {"tokens/effective_share": 1 / mean_square.clamp(min=1e-12)}
        return advantages.unsqueeze(-1) * weights.to(advantages.dtype), metrics

    def weights(self, columns: Tensor) -> Tensor:
        """(N,) weights of mean 1 for the columns (N, 2) of a group's tokens; all 1 where no covariance differs."""
        covariance = token_covariance(columns)
        # The biased variance: mean cov^2 - (mean cov)^2, as the formula is written.
        variance = covariance.var(correction=0)
        exponent = torch.where(variance > 0, covariance.square() / (2 * variance.clamp(min=1e-300)), 0.0)
        # The common factor of all weights drops out, and taking it off keeps them from all being 0.
        weights = torch.exp(exponent.min() - exponent)
        return weights * len(weights) / weights.sum()
