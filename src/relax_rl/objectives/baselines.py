"""The methods that ReLaX is compared with. Each is one function; its parameters are its settings.

All share the advantage of `GroupRelativeAdvantage` with TRL's epsilon, and ``beta``: a plain KL to the reference policy
(k3), which none of these papers needs unless its docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, SequenceMeanTokenSum, TokenMean
from relax_rl.objectives.covariance import CovarianceClippedSurrogate, CovarianceKLSurrogate
from relax_rl.objectives.entropy import CorrectEntropy, EntropyBonus
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.regularizers import ReferenceKL, plain_kl
from relax_rl.objectives.reward_shaping import OverlongPenalty, ShapedAdvantage
from relax_rl.objectives.selection import SelectionScope
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
    It only scales the loss, the KL with it, and in verl and TRL it takes two settings to get both halves of the method.
    """
    return Objective(
        name="dr_grpo",
        advantage=GroupRelativeAdvantage(scale=False),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenSum(max_tokens),
        regularizers=(ReferenceKL(beta, gate="all", reduction="token_sum", max_tokens=max_tokens),),
    )


def dapo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    overlong_buffer: int = 0,
    max_tokens: int = 0,
    overlong_factor: float = 1.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """DAPO (arXiv 2503.14476): clip-higher, and the mean over all tokens of the update.

    Its soft overlong punishment (`OverlongPenalty`) is on with an ``overlong_buffer``, and then needs the longest
    completion allowed as ``max_tokens``. Two parts of DAPO are settings of the run, for any method: its overlong filter
    is ``trainer.mask_truncated_completions``, its dynamic sampling ``sampling.max_batches``. The released scripts also
    bound the loss of negative advantages (dual clip, c = 10); we do not.
    """
    advantage = GroupRelativeAdvantage(epsilon)
    penalty = OverlongPenalty(max_tokens, overlong_buffer, overlong_factor) if overlong_buffer else None
    return Objective(
        name="dapo",
        advantage=advantage if penalty is None else ShapedAdvantage(penalty, advantage),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
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
        regularizers=plain_kl(beta, "completion_mean"),
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
        regularizers=plain_kl(beta, "token_mean"),
    )


def entropy_bonus(
    *,
    coefficient: float = 5e-3,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO with the mean over tokens, and a bonus of fixed size on the policy's entropy; see `EntropyBonus`.

    The default 5e-3 is the only coefficient in the sweep of arXiv 2505.22617 that kept the entropy stable.
    """
    return Objective(
        name="entropy_bonus",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(*plain_kl(beta, "token_mean"), EntropyBonus(coefficient)),
    )


def kl_cov(
    *,
    k_ratio: float = 2e-3,
    coefficient: float = 1.0,
    scope: SelectionScope = "update",
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """KL-Cov (arXiv 2505.22617): a penalty on the change of the tokens of largest covariance; no PPO clip.

    See `CovarianceKLSurrogate`. ``scope="micro_batch"`` chooses as the authors' code does.
    """
    return Objective(
        name="kl_cov",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=CovarianceKLSurrogate(k_ratio, coefficient, scope),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def clip_cov(
    *,
    ratio: float = 2e-4,
    cov_low: float = 1.0,
    cov_high: float = 5.0,
    clip_low: float = 1.0,
    clip_high: float = 1.0,
    seed: int = 0,
    scope: SelectionScope = "update",
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """Clip-Cov (arXiv 2505.22617): no gradient for a few tokens drawn from those of large covariance.

    See `CovarianceClippedSurrogate`. ``scope="micro_batch"`` chooses as the authors' code does. Their scripts also drop
    groups that are all right or all wrong.
    """
    return Objective(
        name="clip_cov",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=CovarianceClippedSurrogate(
            ClippedSurrogate(clip_low, clip_high), ratio, cov_low, cov_high, seed, scope
        ),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def simple_rl(
    *,
    entropy_coefficient: float = 1e-3,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 1e-4,
    epsilon: float = 1e-4,
) -> Objective:
    """The loss of SimpleRL-Zoo's scripts (arXiv 2503.18892): GRPO, a k3 KL, an entropy bonus, the mean over tokens.

    So the "GRPO" baselines that others copy from there hold a KL and an entropy bonus. ``beta`` is 1e-4 up to 14B, 1e-3
    above.
    """
    return Objective(
        name="simple_rl",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=(*plain_kl(beta, "token_mean"), EntropyBonus(entropy_coefficient)),
    )


def r1_zero_div(
    *,
    coefficient: float = 0.01,
    correct_reward: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """R1-zero-Div (arXiv 2505.23433): GRPO, and the sampled entropy of correct completions; see `CorrectEntropy`.

    The authors' GRPO has a KL to the reference; we found no coefficient for it, so ``beta`` is 0 unless it is set.
    """
    return Objective(
        name="r1_zero_div",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*plain_kl(beta, "completion_mean"), CorrectEntropy(coefficient, correct_reward)),
    )


_ALL = (
    dr_grpo,
    dapo,
    gspo,
    cispo,
    entropy_bonus,
    kl_cov,
    clip_cov,
    simple_rl,
    r1_zero_div,
)
BASELINES: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
