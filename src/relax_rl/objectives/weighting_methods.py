"""Methods that weigh tokens by phrase, covariance, entropy or difficulty, and those that match a distribution.

Each is one function; its parameters are its settings. ``beta`` is a plain KL to the reference policy (k3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relax_rl.errors import ConfigError
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, TokenMean
from relax_rl.objectives.clipping import EntropyRatioSurrogate
from relax_rl.objectives.covariance import CovarianceKernel
from relax_rl.objectives.difficulty import HierarchicalTokenSurrogate
from relax_rl.objectives.entropy_flow import BalancedFlow, LogProbSurrogate
from relax_rl.objectives.group_distribution import DistributionMatching, Divergence, FlowBalanceSurrogate
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.regularizers import plain_kl
from relax_rl.objectives.selection import SelectionScope
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.token_weights import QUOTED_GRAMS, PlanningCredit

__all__ = ["WEIGHTING_METHODS"]


def hicra(
    *,
    alpha: float = 0.2,
    grams: Sequence[str] = QUOTED_GRAMS,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    beta: float = 0.0,
) -> Objective:
    """HICRA (arXiv 2509.03646): more credit for planning tokens; see `PlanningCredit`, also for ``grams``.

    The advantage is the reward less the group's mean, without division by its std, as printed in section 3; the base is
    GRPO with clip-higher, as in section 4.
    """
    if isinstance(grams, str):
        raise ConfigError(f"objective.grams is {grams!r}; give a list of phrases.")
    return Objective(
        name="hicra",
        advantage=GroupRelativeAdvantage(scale=False),
        token_weights=PlanningCredit(alpha, tuple(grams)),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


def cw_grpo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """CW-GRPO (arXiv 2605.11538): extreme covariances weigh less, by a Gaussian kernel; see `CovarianceKernel`."""
    return Objective(
        name="cw_grpo",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=CovarianceKernel(),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


def htpo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    hard_below: float = 0.6,
    high_share: float = 0.2,
    low_dropped: float = 0.006,
    high_dropped: float = 0.02,
    correct_reward: float = 1.0,
    dual_bound: float = 10.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """HTPO (arXiv 2605.08283): a loss by difficulty, correctness and entropy; see `HierarchicalTokenSurrogate`."""
    return Objective(
        name="htpo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=HierarchicalTokenSurrogate(
            clip_low, clip_high, hard_below, high_share, low_dropped, high_dropped, correct_reward, dual_bound
        ),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def erc(
    *,
    entropy_low: float = 0.05,
    entropy_high: float = 0.05,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_bound: float = 10.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """Entropy ratio clipping (arXiv 2512.05591) on DAPO's loss; see `EntropyRatioSurrogate`."""
    return Objective(
        name="erc",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=EntropyRatioSurrogate(ClippedSurrogate(clip_low, clip_high), entropy_low, entropy_high, dual_bound),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def opefo(
    *,
    scope: SelectionScope = "update",
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """OPEFO (arXiv 2605.11491): rises and falls of the entropy in balance; see `BalancedFlow`.

    Strictly on-policy: no ratio and no clip, so one update a rollout batch.
    """
    return Objective(
        name="opefo",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=BalancedFlow(scope),
        surrogate=LogProbSurrogate(),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def dmpo(
    *,
    coefficient: float = 1.0,
    temperature: float = 1 / 15,
    divergence: Divergence = "mse",
    skip_flat: bool = False,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-6,
) -> Objective:
    """DMPO (arXiv 2605.19461): GRPO by tokens, and a distribution over the group to match; see `DistributionMatching`.

    By verl's recipe, but for its dual clip. ``coefficient=2`` and ``skip_flat`` are what the recipe's script runs.
    """
    return Objective(
        name="dmpo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(
            *plain_kl(beta, "token_mean"),
            DistributionMatching(coefficient, temperature, divergence, skip_flat),
        ),
    )


def flow_rl(
    *,
    tilt: float = 15.0,
    weight_max: float = 10.0,
    beta: float = 0.0,
    epsilon: float = 1e-6,
) -> Objective:
    """FlowRL (arXiv 2509.15207): match the reference tilted by the reward, with a learned log Z.

    See `FlowBalanceSurrogate`, whose beta is ``tilt`` here; ``beta`` is a KL on top, which the paper has not.
    """
    return Objective(
        name="flow_rl",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=FlowBalanceSurrogate(tilt, weight_max),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


_ALL = (hicra, cw_grpo, htpo, erc, opefo, dmpo, flow_rl)
WEIGHTING_METHODS: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
