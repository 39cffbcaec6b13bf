"""HICRA (arXiv 2509.03646): more credit for planning tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import TokenWeights
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import Input, PlanningMask
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.selection import selected_share
from relax_rl.objectives.settings import RatioSettings

__all__ = ["HICRASettings", "PlanningCredit", "hicra"]


QUOTED_GRAMS = ("we can use the fact that", "let's try a different approach", "but the problem mentions that")
"""The strategic grams that HICRA's paper quotes."""


class HICRASettings(RatioSettings):
    """HICRA's; see `PlanningCredit`, also for ``grams``."""

    paper: ClassVar[str | None] = "2509.03646"

    alpha: float = 0.2
    grams: Sequence[str] = QUOTED_GRAMS
    clip_high: float = 0.28


def hicra(settings: HICRASettings) -> Objective:
    """GRPO with clip-higher (section 4), and `PlanningCredit` on the reward less the group's mean (section 3)."""
    return Objective(
        name="hicra",
        advantage=GroupRelativeAdvantage(scale=False),
        token_weights=PlanningCredit(settings.alpha, tuple(settings.grams)),
        surrogate=settings.surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=settings.kl("completion_mean"),
    )


@dataclass(frozen=True)
class PlanningCredit(TokenWeights):
    """HICRA: planning tokens get more credit when it is good and less blame when it is not (arXiv 2509.03646, sec. 3).

    A_t = A + alpha |A| at the tokens of planning phrases, A elsewhere. Which those are is a list of "strategic grams",
    three to five words long, that the authors drew from correct solutions by clustering and looked through by hand.
    Their list is not in the text of the paper and their repository holds no code, so it is yours to give; the default
    are the three phrases that the paper quotes. The input `PlanningMask` carries ``grams`` to
    its provider.

    Attributes:
        alpha: 0.2 (paper).
        grams: the phrases; upper and lower case are the same.
    """

    alpha: float = 0.2
    grams: tuple[str, ...] = QUOTED_GRAMS

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"alpha must be at least 0 and below 1, but is {self.alpha}.")
        # A part that is built by hand is checked here; settings were parsed.
        grams = cast("tuple[object, ...]", self.grams)
        if not grams or not all(isinstance(gram, str) and gram.split() for gram in grams):
            raise ConfigError(f"grams must be a list of phrases, but is {list(self.grams)!r}.")

    def inputs(self) -> frozenset[Input]:
        return frozenset({PlanningMask(grams=self.grams)})

    def __call__(self, batch: RolloutBatch, advantages: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        planning = batch.required(PlanningMask())
        advantage = advantages.unsqueeze(-1)
        return advantage + self.alpha * advantage.abs() * planning, selected_share(planning, batch)
