"""DAPO (arXiv 2503.14476): clip-higher, and the mean over all tokens of the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.limits import RunLimits
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings
from relax_rl.objectives.shaping import RewardShaping, ShapedAdvantage

__all__ = ["DAPOSettings", "OverlongPenalty", "dapo"]


class DAPOSettings(AdvantageSettings, RatioSettings):
    """DAPO's. The released scripts also bound the loss of negative advantages (``dual_clip`` = 10); the paper does not.

    Attributes:
        overlong_buffer: tokens before the limit that cost (`OverlongPenalty`); 0 is off, the paper has 4096.
        overlong_factor: factor of that penalty.
        max_completion_length: the limit; None takes the run's.
    """

    paper: ClassVar[str | None] = "2503.14476"

    clip_high: float = 0.28
    overlong_buffer: int = 0
    overlong_factor: float = 1.0
    max_completion_length: int | None = None


def dapo(settings: DAPOSettings, limits: RunLimits) -> Objective:
    """The loss of DAPO.

    Two parts of the paper are settings of the run, for any method: its overlong filter is
    ``trainer.mask_truncated_completions``, its dynamic sampling ``sampling.max_batches``.

    Raises:
        ConfigError: for an overlong penalty without a limit, or one whose buffer does not fit into it.
    """
    return Objective(
        name="dapo",
        advantage=_advantage(settings, limits),
        surrogate=settings.surrogate,
        aggregation=TokenMean(),
        regularizers=settings.kl("token_mean"),
    )


def _advantage(settings: DAPOSettings, limits: RunLimits) -> Advantage:
    if not settings.overlong_buffer:
        return settings.advantage
    length = settings.max_completion_length or limits.max_completion_length
    if length is None:
        raise ConfigError(
            "objective.overlong_buffer needs the longest completion allowed, which a run has from "
            "trainer.max_completion_length; set objective.max_completion_length."
        )
    return ShapedAdvantage(
        OverlongPenalty(length, settings.overlong_buffer, settings.overlong_factor), settings.advantage
    )


@dataclass(frozen=True)
class OverlongPenalty(RewardShaping):
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13): length costs, near the limit.

    reward + factor min((max_completion_length - buffer - length) / buffer, 0).

    Attributes:
        max_completion_length: the longest completion allowed (20480 in the paper).
        buffer: the last so many tokens cost (4096 in the paper).
        factor: 1 (paper).
    """

    max_completion_length: int
    buffer: int
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.buffer <= self.max_completion_length:
            raise ConfigError(
                f"overlong_buffer must be at least 1 and at most max_completion_length, but they are {self.buffer} and "
                f"{self.max_completion_length}; set objective.overlong_buffer to fewer tokens."
            )

    def __call__(self, batch: RolloutBatch) -> Tensor:
        over = (self.max_completion_length - self.buffer - batch.lengths_as_sampled) / self.buffer
        return batch.float_rewards + self.factor * over.clamp(max=0.0)
