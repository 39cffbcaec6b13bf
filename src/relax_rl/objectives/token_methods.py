"""More methods to compare with: those that choose, weigh or bound tokens, and pass@k training.

Each is one function; its parameters are its settings. ``beta`` is a plain KL to the reference policy (k3).
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import BestCompletionAdvantage, GroupRelativeAdvantage, PassAtKAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean, TokenMean
from relax_rl.objectives.clipping import DynamicClipSurrogate, FlippedRatioSurrogate, GradientPreservingSurrogate
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.prompt_memory import SmoothedAdvantage
from relax_rl.objectives.regularizers import plain_kl
from relax_rl.objectives.selection import SelectionScope
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.objectives.token_weights import EntropyShaping, ForkingTokens, KeptDenominator

__all__ = ["TOKEN_METHODS"]


def entropy_advantage(
    *,
    scale: float = 0.4,
    kappa: float = 2.0,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """Cheng et al., "Reasoning with Exploration" (arXiv 2506.14758): more advantage where the entropy is high.

    On DAPO's loss (clip-higher, mean over tokens), as in the paper; see `EntropyShaping`. We know its formula from a
    note on the paper, not from code.
    """
    return Objective(
        name="entropy_advantage",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=EntropyShaping(scale, kappa),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def forking_tokens(
    *,
    share: float = 0.2,
    denominator: KeptDenominator = "kept",
    scope: SelectionScope = "update",
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """The 80/20 rule (arXiv 2506.01939): DAPO's loss on the fifth of tokens with the highest entropy.

    See `ForkingTokens`. ``scope="micro_batch"`` chooses as the authors' code does. A KL acts on all tokens.
    """
    return Objective(
        name="forking_tokens",
        advantage=GroupRelativeAdvantage(epsilon),
        token_weights=ForkingTokens(share, denominator, scope),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def pass_at_k(
    *,
    k: int = 4,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-6,
) -> Objective:
    """Pass@k training with the analytical advantage (arXiv 2508.10751); see `PassAtKAdvantage`. Rewards are 0 or 1.

    The method is its advantage; the rest is grpo's. The authors vary k; 4 is our choice, for groups of 8. Not verl's
    ``grpo_passk`` (arXiv 2503.19595), which rewards the best completion alone.
    """
    return Objective(
        name="pass_at_k",
        advantage=PassAtKAdvantage(k, epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


def grpo_passk(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-6,
) -> Objective:
    """verl's ``grpo_passk`` (arXiv 2503.19595): only a group's best completion learns; see `BestCompletionAdvantage`.

    With rewards of 0 and 1 a group learns only where exactly one completion is right. Mean over tokens, verl's default.
    """
    return Objective(
        name="grpo_passk",
        advantage=BestCompletionAdvantage(epsilon),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def ce_gppo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta_low: float = 0.75,
    beta_high: float = 1.0,
    dual_bound: float = 10.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """CE-GPPO (arXiv 2509.20712): tokens outside the clip keep a bounded gradient; see `GradientPreservingSurrogate`.

    The authors also draw prompts dynamically (``sampling.max_batches``).
    """
    return Objective(
        name="ce_gppo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=GradientPreservingSurrogate(clip_low, clip_high, beta_low, beta_high, dual_bound),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def aspo(
    *,
    clip_low_entropy: float = 0.2,
    clip_high_entropy: float = 0.4,
    entropy_quantile: float = 0.8,
    cap: float = 3.0,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """ASPO (arXiv 2510.06062): the ratio of good tokens turned upside down; see `FlippedRatioSurrogate`.

    Mean over tokens, the default of verl, which the authors' code is built on.
    """
    return Objective(
        name="aspo",
        advantage=GroupRelativeAdvantage(epsilon),
        surrogate=FlippedRatioSurrogate(clip_low_entropy, clip_high_entropy, entropy_quantile, cap),
        aggregation=TokenMean(),
        regularizers=plain_kl(beta, "token_mean"),
    )


def dcpo(
    *,
    clip_low: float = 0.16,
    clip_high: float = 0.2,
    high_max: float = 10.0,
    dual_bound: float = 10.0,
    smooth: bool = True,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """DCPO (arXiv 2509.02333): dynamic clip and smoothed advantages; see `DynamicClipSurrogate`, `SmoothedAdvantage`.

    ``smooth=False`` leaves the memory of earlier rewards out. The paper sums the completions' token means; ours is
    their mean, which differs by a constant. (The released code takes the mean over the tokens of a micro-batch.)
    """
    return Objective(
        name="dcpo",
        advantage=SmoothedAdvantage(epsilon) if smooth else GroupRelativeAdvantage(epsilon),
        surrogate=DynamicClipSurrogate(clip_low, clip_high, high_max, dual_bound),
        aggregation=SequenceMeanTokenMean(),
        regularizers=plain_kl(beta, "completion_mean"),
    )


_ALL = (entropy_advantage, forking_tokens, pass_at_k, grpo_passk, ce_gppo, aspo, dcpo)
TOKEN_METHODS: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
