"""ReLaX's neighbours: methods that look at hidden states and, unlike ReLaX, do not teach through them.

Each is one function; its parameters are its settings. ``beta`` is a plain KL to the reference policy (k3).
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, TokenMean
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.rank_shaping import RankShaping
from relax_rl.objectives.regularizers import plain_kl
from relax_rl.objectives.reward_shaping import (
    EllipticalBonus,
    EllipticalKind,
    GradientNovelty,
    LogDetBonus,
    ShapedAdvantage,
    StableRankReward,
)
from relax_rl.objectives.surrogates import ClippedSurrogate

__all__ = ["LATENT_METHODS"]


def rank_shaping(
    *,
    stride: int = 40,
    max_tokens: int = 512,
    gain: float = 2.0,
    kappa: float = 2.0,
    smoothing: float = 0.3,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """VERL (arXiv 2509.23808): more advantage by effective rank and its growth; see `RankShaping`.

    Not the library verl, whose name differs by its capitals. The authors' script also has a KL and an entropy bonus of
    0.001 each.
    """
    return Objective(
        name="rank_shaping",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=RankShaping(stride, max_tokens, gain, kappa, smoothing),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def rep_exp(
    *,
    coefficient: float = 0.01,
    dimension: int = 32,
    ridge: float = 0.01,
    kind: EllipticalKind = "leverage",
    correct_reward: float = 1.0,
    seed: int = 0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """RepExp (arXiv 2510.11686): an elliptical bonus on the reward; see `EllipticalBonus`."""
    bonus = EllipticalBonus(coefficient, dimension, ridge, kind, correct_reward, seed)
    return Objective(
        name="rep_exp",
        advantage=ShapedAdvantage(bonus, GroupRelativeAdvantage(epsilon)),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def g2rl(
    *,
    strength: float = 0.5,
    correct_reward: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """G2RL (arXiv 2512.15687): rewards by the novelty of a completion's gradient; see `GradientNovelty`."""
    return Objective(
        name="g2rl",
        advantage=ShapedAdvantage(GradientNovelty(strength, correct_reward), GroupRelativeAdvantage(epsilon)),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


def sr_grpo(
    *,
    verifier_weight: float = 0.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """SR-GRPO (arXiv 2512.02807): the stable rank is the reward, and nothing else; see `StableRankReward`."""
    return Objective(
        name="sr_grpo",
        advantage=ShapedAdvantage(StableRankReward(verifier_weight), GroupRelativeAdvantage(epsilon)),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


def log_det(
    *,
    coefficient: float = 0.1,
    center: bool = False,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO with a bonus on the reward for spreading the group's mean states; see `LogDetBonus`."""
    return Objective(
        name="log_det",
        advantage=ShapedAdvantage(LogDetBonus(coefficient, center), GroupRelativeAdvantage(epsilon)),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


_ALL = (rank_shaping, rep_exp, g2rl, sr_grpo, log_det)
LATENT_METHODS: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
