"""Coverage: the policy gradient of the expected number of different solutions among k. Rewards are 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import RightOrWrongAdvantage, right_and_wrong
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import MODES, Input
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.modes import mode_counts
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import CoverageBaseline, CoverageSettings

__all__ = ["CoverageAdvantage", "ModeCoverageSettings", "coverage"]


class ModeCoverageSettings(CoverageSettings):
    """The method is its advantage; the rest is GRPO's. It needs a task that has modes."""

    paper: ClassVar[str | None] = None


def coverage(settings: ModeCoverageSettings, limits: RunLimits) -> Objective:
    """GRPO's loss with `CoverageAdvantage`. Raises ConfigError for k above what the run's groups hold."""
    limits.require_subset("k", settings.k, others=int(settings.baseline == "leave_one_out"))
    return Objective(
        name="coverage",
        advantage=CoverageAdvantage(settings.k, settings.baseline),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class CoverageAdvantage(RightOrWrongAdvantage):
    """A_i = u_i - b_i, where u_i of a right completion is the chance that none of k - 1 others of its group has its
    mode, and 0 of a wrong one:

        u_i = s_i C(G - c_z, k - 1) / C(G - 1, k - 1),    c_z right completions of the group in the mode of i.

    The mean over i of E u_i grad log pi, times k, is the gradient of sum_z [1 - (1 - p_z)^k], the expected number of
    solutions among k, without bias; the factor k is left out. A completion without a score is none of the G; where too
    few are scored, the advantages are 0.

    Attributes:
        k: size of the subsets.
        baseline: "mean" subtracts the mean of u, which completion i has changed by its own mode: a bias of order 1 / G,
            none at k = 1, where this is Dr. GRPO's advantage. "leave_one_out" subtracts what the mean of the others' u
            would be without i, which has none. "none" subtracts nothing.
    """

    k: int = 4
    baseline: CoverageBaseline = "mean"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, but is {self.k}.")
        if self.baseline not in get_args(CoverageBaseline):
            raise ConfigError(f"baseline is {self.baseline!r}; choose one of {', '.join(get_args(CoverageBaseline))}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({MODES})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient.

        Raises:
            ConfigError: k is larger than the group, or leaves no other group to take the baseline from.
            DataError: a reward is neither 0, 1 nor NaN.
        """
        most = batch.group_size - (self.baseline == "leave_one_out")
        if self.k > most:
            raise ConfigError(
                f"k is {self.k}, but baseline = {self.baseline} of groups of {batch.group_size} takes at most {most}."
            )
        is_right, is_wrong = right_and_wrong(batch.float_rewards, "Coverage")
        counts, size = mode_counts(batch.required(MODES), is_right), (is_right | is_wrong).sum(-1, keepdim=True)
        novelty = torch.where(is_right, self._novelty(counts, size), 0.0)
        advantages = (novelty - self._baseline(novelty, counts, size)).masked_fill(~(is_right | is_wrong), 0.0)
        is_enough = size - int(self.baseline == "leave_one_out") >= self.k
        return (advantages * is_enough).to(batch.float_rewards.dtype)

    def _novelty(self, counts: Tensor, size: Tensor) -> Tensor:
        """(P, G) float64 C(size - counts, k - 1) / C(size - 1, k - 1)."""
        found = torch.ones(counts.shape, dtype=torch.float64, device=counts.device)
        for drawn in range(self.k - 1):
            found = found * (size - counts - drawn).clamp(min=0) / (size - 1 - drawn).clamp(min=1)
        return found

    def _baseline(self, novelty: Tensor, counts: Tensor, size: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(novelty)
        if self.baseline == "mean":
            return novelty.sum(-1, keepdim=True) / size.clamp(min=1)
        # In the group of the others, those of another mode keep their count, and those of the same have one less.
        others, is_right = size - 1, counts > 0
        of_others = torch.where(is_right, self._novelty(counts, others), 0.0)
        of_mode = (counts - 1).clamp(min=0) * self._novelty((counts - 1).clamp(min=0), others)
        kept = of_others.sum(-1, keepdim=True) - counts * of_others
        return (kept + torch.where(is_right, of_mode, 0.0)) / others.clamp(min=1)
