"""Poly-EPO (arXiv 2604.17654): a set of completions is rewarded as one, for being right and for being diverse.

Known from a note on the paper.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import SequenceMeanTokenSum
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import MODES, Input
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import RatioSettings

__all__ = ["Clustered", "PolyEPOSettings", "SetAdvantage", "poly_epo"]

Clustered = Literal["right", "all"]

NO_RUN_LENGTH = 3000
"""Longest completion outside of a run, as in `dr_grpo`."""


class PolyEPOSettings(RatioSettings):
    """See `SetAdvantage`. It needs a task that has modes.

    Attributes:
        n: completions in a set; the paper's 4 of 8.
        clusters: "right" counts the modes of right completions, "all" is as printed.
        needs_two: as printed, a set of a single cluster is worth nothing.
        num_sets: sets that are drawn where a group has more than so many; the paper's 70 are all of them at 4 of 8.
        seed: seed of the sets that are drawn.
        max_completion_length: constant of Dr. GRPO's length normalisation in tokens; None takes the run's limit.
    """

    paper: ClassVar[str | None] = "2604.17654"
    verified: ClassVar[bool] = False

    n: int = 4
    clusters: Clustered = "right"
    needs_two: bool = False
    num_sets: int = 2000
    seed: int = 0
    max_completion_length: int | None = None


def poly_epo(settings: PolyEPOSettings, limits: RunLimits) -> Objective:
    """Dr. GRPO's loss with `SetAdvantage`. Raises ConfigError for n above what the run's groups hold."""
    limits.require_subset("n", settings.n)
    given = settings.max_completion_length
    length = (limits.max_completion_length or NO_RUN_LENGTH) if given is None else given
    return Objective(
        name="poly_epo",
        advantage=SetAdvantage(settings.n, settings.clusters, settings.needs_two, settings.num_sets, settings.seed),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenSum(length),
        regularizers=settings.kl("token_sum", length),
    )


@dataclass(frozen=True)
class SetAdvantage(Advantage):
    """A_i = mean over the sets U with i of f(U), less the mean of f over all sets (arXiv 2604.17654, Eq. 8).

    f(U) is the mean reward of the n completions of U times its number of clusters over that of its completions. The
    paper asks a language model which completions form a cluster; here it is the mode.

    As printed (``clusters="all", needs_two=True``) wrong completions are clusters, too, and each of its own kind makes
    a set more diverse: in a group of five right ones of one mode and three wrong ones of three, the wrong ones have the
    larger advantage at n = 4. By default only right completions have clusters, and are counted: with rewards of 0 and 1
    f(U) is then the number of solutions that U found, over n.

    Attributes:
        n: completions in a set.
        clusters: "right" or "all".
        needs_two: whether a set of a single cluster is worth nothing, however right.
        num_sets: sets drawn where there are more.
        seed: seed of the draw, the same sets for all groups.
    """

    n: int = 4
    clusters: Clustered = "right"
    needs_two: bool = False
    num_sets: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.num_sets < 1:
            raise ConfigError(f"n and num_sets must be at least 1, but are {self.n} and {self.num_sets}.")
        if self.clusters not in get_args(Clustered):
            raise ConfigError(f"clusters is {self.clusters!r}; choose one of {', '.join(get_args(Clustered))}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({MODES})

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) advantages, no gradient. Raises ConfigError where n is larger than the group."""
        if self.n > batch.group_size:
            raise ConfigError(f"n is {self.n}, but a group has {batch.group_size} completions; take a smaller n.")
        rewards, modes = batch.float_rewards, batch.required(MODES)
        return torch.stack([self._of_group(*group) for group in zip(rewards, modes, strict=True)])

    def _of_group(self, rewards: Tensor, modes: Tensor) -> Tensor:
        advantages = torch.zeros_like(rewards)
        scored = (~rewards.isnan()).nonzero().flatten()
        if len(scored) < self.n:
            return advantages
        sets = torch.tensor(_sets(len(scored), self.n, self.num_sets, self.seed), device=rewards.device)
        values = self._values(rewards[scored][sets], modes[scored][sets])
        inside = torch.zeros(len(sets), len(scored), dtype=rewards.dtype, device=rewards.device).scatter(1, sets, 1.0)
        # A completion that is in none of the sets drawn has nothing said of it.
        counts = inside.sum(0)
        means = (inside * values.unsqueeze(-1)).sum(0) / counts.clamp(min=1)
        advantages[scored] = torch.where(counts > 0, means - values.mean(), 0.0)
        return advantages

    def _values(self, rewards: Tensor, modes: Tensor) -> Tensor:
        """(K,) f of each set, for rewards and modes (K, n)."""
        counts_in = torch.ones_like(modes, dtype=torch.bool) if self.clusters == "all" else rewards > 0
        # The first of each mode stands for it.
        is_same = (modes.unsqueeze(-1) == modes.unsqueeze(-2)) & counts_in.unsqueeze(-2)
        has_earlier = is_same.tril(diagonal=-1).any(-1)
        num_clusters = (counts_in & ~has_earlier).sum(-1)
        worth = num_clusters * (num_clusters > 1) if self.needs_two else num_clusters
        # Among right ones alone, the diversity is theirs: of 0 and 1, f is the number of modes found over n.
        size = counts_in.sum(-1).clamp(min=1)
        return rewards.mean(-1) * worth / size


@functools.cache
def _sets(size: int, n: int, most: int, seed: int) -> list[tuple[int, ...]]:
    """All subsets of n of so many, or as many as are asked for, drawn."""
    if math.comb(size, n) <= most:
        return list(itertools.combinations(range(size), n))
    rng = random.Random(seed)
    return [tuple(rng.sample(range(size), n)) for _ in range(most)]
