"""Methods whose coefficients move from one update to the next, by the entropy or by the share of the run that is done.

Each is one function; its parameters are its settings. ``beta`` is a plain KL to the reference policy (k3).
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, TokenMean
from relax_rl.objectives.entropy_band import EntropyBand
from relax_rl.objectives.moving_entropy import AdaptiveEntropyBonus, ScheduledEntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.regularizers import plain_kl
from relax_rl.objectives.report import Schedule, ScheduleShape
from relax_rl.objectives.selection import SelectionScope
from relax_rl.objectives.surrogates import ClippedSurrogate

__all__ = ["MOVING_METHODS"]


def adaptive_entropy_bonus(
    *,
    target: float = 0.2,
    delta: float = 0.005,
    coefficient: float = 0.0,
    low: float = 0.0,
    high: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO with the mean over tokens and a bonus that keeps the entropy at a target; see `AdaptiveEntropyBonus`.

    Skywork-OR1 (arXiv 2505.22312), with TRL's defaults.
    """
    return Objective(
        name="adaptive_entropy_bonus",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(
            *plain_kl(beta, "token_mean"),
            AdaptiveEntropyBonus(target, delta, low, high, coefficient),
        ),
    )


def scheduled_entropy_bonus(
    *,
    start: float = 5e-3,
    end: float = 0.0,
    schedule: ScheduleShape = "linear",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO with the mean over tokens and an entropy bonus that changes over the run; see `ScheduledEntropyBonus`.

    No paper: exploration first and its price later. The start is the coefficient of `entropy_bonus`.
    """
    return Objective(
        name="scheduled_entropy_bonus",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(*plain_kl(beta, "token_mean"), ScheduledEntropyBonus(Schedule(start, end, schedule))),
    )


def entrocraft(
    *,
    low_start: float = 0.6,
    low_end: float = 0.4,
    high_start: float = 0.7,
    high_end: float = 0.5,
    schedule: ScheduleShape = "linear",
    scope: SelectionScope = "update",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """Entrocraft (arXiv 2604.26326, Alg. 1): an entropy band that moves over the run; see `EntropyBand`.

    The band is the authors' README's, for models of 0.6 nats or more at the start: set it for yours, whose entropy
    stands in the log of any run.
    """
    return Objective(
        name="entrocraft",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=EntropyBand(
            Schedule(low_start, low_end, schedule), Schedule(high_start, high_end, schedule), scope
        ),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


_ALL = (adaptive_entropy_bonus, scheduled_entropy_bonus, entrocraft)
MOVING_METHODS: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
