"""Latent coverage: credit for solutions that no verifier distinguishes, by a kernel between answer states. Rewards: 0
or 1.

A hypothesis of ours (docs/research/evidence/plan.md, I2). Refuted where the same credit on shuffled
positions, or on the token sets of the completions (``source = tokens``), covers as many solutions: then the states add
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.anchors import OneSidedAnchor
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import LATENT_KEYS, BankTerm, Input, KeySource, LatentKeys
from relax_rl.objectives.latent_modes import clusters, latent_kernel
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import CoverageBaseline, CoverageSettings

__all__ = ["LatentCoverageAdvantage", "LatentCoverageSettings", "LatentCredit", "LatentKernel", "latent_coverage"]

LatentCredit = Literal["coverage", "mode_wise"]
LatentKernel = Literal["soft", "clusters"]


class LatentCoverageSettings(CoverageSettings):
    """The method is its advantage; the rest is GRPO's. Set ``beta`` to add a KL as an anchor. It needs no modes.

    Attributes:
        credit: "coverage" for solutions among k, or "mode_wise", as in `mode_max_rl`, which leaves k and baseline idle.
        kernel: "soft", or "clusters" by average linkage, which makes the kernel 0 or 1.
        source: source of the positions: the state that predicts the first token of the "answer", "answer_end" the last
            one, "mean" state, or "tokens", a control without states.
        quantile: quantile of the distances in the first rollout batch, which becomes the unit of the kernel and the
            threshold of the clusters.
        shuffled: deal the positions of each group out at random: a control.
        bank: folder of an evaluation of the start policy, whose dynamics are then held as `latent_anchor` does with its
            defaults; none without.
    """

    paper: ClassVar[str | None] = None

    credit: LatentCredit = "coverage"
    kernel: LatentKernel = "soft"
    source: KeySource = "answer"
    quantile: float = 0.5
    shuffled: bool = False
    bank: str = ""


def latent_coverage(settings: LatentCoverageSettings, limits: RunLimits) -> Objective:
    """GRPO's loss with `LatentCoverageAdvantage`. Raises ConfigError for k above what the run's groups hold."""
    if not 0 < settings.quantile < 1:
        raise ConfigError(f"objective.quantile must be between 0 and 1, but is {settings.quantile}.")
    if settings.credit == "coverage":
        limits.require_subset("k", settings.k, others=int(settings.baseline == "leave_one_out"))
    anchors = (OneSidedAnchor(BankTerm(path=settings.bank, kind="latent")),) if settings.bank else ()
    return Objective(
        name="latent_coverage",
        advantage=LatentCoverageAdvantage(
            settings.k,
            settings.baseline,
            settings.credit,
            settings.kernel,
            LatentKeys(source=settings.source, quantile=settings.quantile, is_shuffled=settings.shuffled),
        ),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*settings.kl("completion_mean"), *anchors),
    )


@dataclass(frozen=True)
class LatentCoverageAdvantage(RightOrWrongAdvantage):
    """The advantages of `coverage` or `mode_max_rl` with a kernel kappa in [0, 1] in place of equal modes.

    With coverage, A_i = u_i - b_i, where u_i of a right completion is the mean over the subsets S of k - 1 others of
    the product over j in S of (1 - s_j kappa_ij), and 0 of a wrong one. With mode-wise credit, A_i = s_i G / c_i - M,
    c_i the sum over j of s_j kappa_ij and M the sum over i of s_i / c_i. A kernel of 0 and 1 that is 1 exactly within a
    mode gives the two methods to the last bit that matters. A completion without a score is none of the G.

    Attributes:
        k: size of the subsets.
        baseline: "mean" of u, "leave_one_out" (the mean u of the others, had they been the group) or "none".
        credit: "coverage" or "mode_wise".
        kernel: "soft" or "clusters".
        positions: source of the positions (`LatentKeys`).
    """

    k: int = 4
    baseline: CoverageBaseline = "mean"
    credit: LatentCredit = "coverage"
    kernel: LatentKernel = "soft"
    positions: LatentKeys = LATENT_KEYS

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, but is {self.k}.")
        if self.baseline not in get_args(CoverageBaseline):
            raise ConfigError(f"baseline is {self.baseline!r}; choose one of {', '.join(get_args(CoverageBaseline))}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({self.positions})

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient.

        Raises:
            ConfigError: k is larger than the group, or leaves no other group to take the baseline from.
            DataError: a reward is neither 0, 1 nor NaN.
        """
        most = batch.group_size - (self.baseline == "leave_one_out")
        if self.credit == "coverage" and self.k > most:
            raise ConfigError(
                f"k is {self.k}, but baseline = {self.baseline} of groups of {batch.group_size} takes at most {most}."
            )
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "Latent coverage")
        kernel = self._kernel(batch.required(self.positions), is_right)
        taken = kernel * is_right.unsqueeze(-2)
        found = (self._mode_wise if self.credit == "mode_wise" else self._coverage)(
            taken, is_right, is_right | is_wrong
        )
        return found.masked_fill(~(is_right | is_wrong), 0.0).to(batch.float_rewards.dtype)

    def _kernel(self, positions: Tensor, is_right: Tensor) -> Tensor:
        if self.kernel == "soft":
            return latent_kernel(positions)
        labels = clusters(positions, is_right)
        return (labels.unsqueeze(-1) == labels.unsqueeze(-2)).double()

    @staticmethod
    def _mode_wise(taken: Tensor, is_right: Tensor, is_scored: Tensor) -> Tensor:
        # A right completion is at distance 0 from itself, so its count is at least 1.
        each = torch.where(is_right, 1 / taken.sum(-1).clamp(min=1.0), 0.0)
        return each * is_scored.sum(-1, keepdim=True) - each.sum(-1, keepdim=True)

    def _coverage(self, taken: Tensor, is_right: Tensor, is_scored: Tensor) -> Tensor:
        size = is_scored.sum(-1, keepdim=True)
        own = torch.eye(taken.shape[-1], dtype=torch.bool, device=taken.device)
        # What takes no part has weight 0 and is in no subset.
        weights = (1 - taken).masked_fill(own | ~is_scored.unsqueeze(-2), 0.0)
        novelty = torch.where(is_right, self._mean_over_subsets(weights, size - 1), 0.0)
        is_enough = size - int(self.baseline == "leave_one_out") >= self.k
        return (novelty - self._baseline(novelty, weights, is_right, is_scored)) * is_enough

    def _mean_over_subsets(self, weights: Tensor, others: Tensor) -> Tensor:
        """(...) mean over subsets of k - 1 of the product of their weights (..., G), ``others`` of which take part."""
        sums = weights.new_zeros((self.k, *weights.shape[:-1]))
        sums[0] = 1.0
        for weight in weights.unbind(-1):
            for order in range(self.k - 1, 0, -1):
                sums[order] = sums[order] + sums[order - 1] * weight
        count = torch.ones_like(others, dtype=torch.float64)
        for drawn in range(self.k - 1):
            count = count * (others - drawn).clamp(min=1) / (drawn + 1)
        return sums[-1] / count

    def _baseline(self, novelty: Tensor, weights: Tensor, is_right: Tensor, is_scored: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(novelty)
        size = is_scored.sum(-1, keepdim=True)
        if self.baseline == "mean":
            return novelty.sum(-1, keepdim=True) / size.clamp(min=1)
        own = torch.eye(weights.shape[-1], dtype=torch.bool, device=weights.device)
        # (P, i, j, l): of completion j beside the others l, where i is not there.
        without = weights.unsqueeze(1).masked_fill(own[:, None, :], 0.0)
        of_others = self._mean_over_subsets(without, (size - 2).unsqueeze(-1))
        counted = (is_right.unsqueeze(-2) & ~own).double()
        return (of_others * counted).sum(-1) / (size - 1).clamp(min=1)
