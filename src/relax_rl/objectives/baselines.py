"""The methods that ReLaX is compared with. Each is one function; its parameters are its settings.

All share the advantage of `GroupRelativeAdvantage` with TRL's epsilon, and ``beta``: a plain KL to the reference policy
(k3), which none of these papers needs unless its docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, SequenceMeanTokenSum, TokenMean
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.regularizers import KLReduction, ReferenceKL
from relax_rl.objectives.surrogates import CappedWeightSurrogate, ClippedSurrogate, SequenceRatioSurrogate

__all__ = ["BASELINES"]


def dr_grpo(
    *,
    max_tokens: int = 3000,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
) -> Objective:
    """Dr. GRPO (arXiv 2503.20783): no division by the group's std, none by the completion's length.

    loss = (1/B) sum_i (1/max_tokens) sum_t PPO(r, R_i - mean).

    ``max_tokens`` is the longest completion allowed (3000 for the authors; set it to the run's max_completion_length).
    It only scales the loss, and in verl and TRL it takes two settings to get both halves of the method.
    """
    return Objective(
        name="dr_grpo",
        advantage=GroupRelativeAdvantage(scale=False),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenSum(max_tokens),
        regularizers=_plain_kl(beta, "completion_mean"),
    )


def dapo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """DAPO's loss (arXiv 2503.14476): clip-higher, and the mean over all tokens of the update.

    Two more parts of DAPO are not part of a loss. Its overlong filter is the setting
    ``trainer.mask_truncated_completions``. Its dynamic sampling (draw prompts until enough groups are neither all
    right nor all wrong) is not there yet: such groups have advantage 0 and only dilute the mean. Nor is its soft
    overlong punishment, which belongs to the reward. The released scripts also bound the loss of negative advantages
    (dual clip, c = 10); we do not.
    """
    return Objective(
        name="dapo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=_plain_kl(beta, "token_mean"),
    )


def gspo(
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GSPO (arXiv 2507.18071): the ratio of the whole completion, clipped; see `SequenceRatioSurrogate`.

    The clip acts from the second update of a rollout on; before it, all ratios are 1.
    """
    return Objective(
        name="gspo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=SequenceRatioSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=_plain_kl(beta, "completion_mean"),
    )


def cispo(
    *,
    ratio_min: float = 0.0,
    ratio_max: float = 5.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """CISPO (arXiv 2506.13585): capped weights on the log-probability, mean over tokens; see `CappedWeightSurrogate`.

    The bounds are absolute, as in TRL.
    """
    return Objective(
        name="cispo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=CappedWeightSurrogate(ratio_min, ratio_max),
        aggregation=TokenMean(),
        regularizers=_plain_kl(beta, "token_mean"),
    )


def _plain_kl(beta: float, reduction: KLReduction) -> tuple[ReferenceKL]:
    return (ReferenceKL(beta, gate="all", reduction=reduction, estimator="k3"),)


BASELINES: dict[str, Callable[..., Objective]] = {method.__name__: method for method in (dr_grpo, dapo, gspo, cispo)}
