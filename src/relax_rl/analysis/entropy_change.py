"""How an update changes the entropy, by the covariance of log-probability and advantage, and which tokens do it.

"The Entropy Mechanism" (arXiv 2505.22617, section 3): for a softmax policy over a table of logits and a step of size
eta, the entropy changes by

    -eta Cov(log pi, pi A)    under a policy gradient (Theorem 1),
    -eta Cov(log pi, A)       under a natural policy gradient (Theorem 2),

actions drawn from pi. A language model is neither a table nor optimised so, and eta is then a fitted number: what is
predicted is the sign and the course, not the size. Covariances are estimated in three forms, from log-probabilities of
the sampled tokens: over all tokens of a batch (Eq. 10), over the tokens of each prompt's group, and, as the paper
checks its theorem, with a whole completion as one action (a bandit), its log-probability divided by its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from relax_rl.errors import DataError

__all__ = [
    "ChangeAgreement",
    "Covariances",
    "TokenShare",
    "bandit_entropy_change",
    "carriers",
    "change_agreement",
    "covariances",
]

SHARES = (0.0002, 0.002, 0.02, 0.2, 1.0)
"""Those of the paper's Table 1."""


@dataclass(frozen=True)
class Covariances:
    """Covariance of log-probability and advantage in three forms; the entropy falls where they are positive.

    Attributes:
        token: over all tokens of the batch.
        group: over the tokens of each prompt's completions, mean over prompts.
        bandit: over the completions of each prompt, mean over prompts.
        terms: (P, G, T) centred products whose mean over the tokens is ``token``; 0 where masked.
    """

    token: float
    group: float
    bandit: float
    terms: np.ndarray


@dataclass(frozen=True)
class TokenShare:
    """The tokens of largest covariance.

    Attributes:
        share: how many of all tokens.
        mean: their mean covariance.
        of_total: their part of the sum over all tokens; above 1 where the others take some away.
    """

    share: float
    mean: float
    of_total: float


@dataclass(frozen=True)
class ChangeAgreement:
    """Measured changes of the entropy against those that the covariance predicts.

    Attributes:
        step_size: eta of the least-squares fit ``change = -eta covariance``; negative where the sign is wrong.
        correlation: Spearman's, of the predicted and the measured changes.
        same_sign: share of the updates whose change has the predicted sign.
        num_updates: pairs that were compared.
    """

    step_size: float
    correlation: float
    same_sign: float
    num_updates: int


def bandit_entropy_change(
    logits: Sequence[float] | np.ndarray,
    advantages: Sequence[float] | np.ndarray,
    step_size: float,
    *,
    natural: bool = False,
) -> float:
    """First-order change of a softmax policy's entropy, in nats, in one step of the expected (natural) policy gradient.

    Args:
        logits, advantages: one value an action.
    """
    log_probs = special.log_softmax(np.asarray(logits, dtype=np.float64))
    advantages = np.asarray(advantages, dtype=np.float64)
    if log_probs.ndim != 1 or log_probs.shape != advantages.shape:
        raise DataError(f"need a logit and an advantage an action; got {log_probs.shape} and {advantages.shape}.")
    probabilities = np.exp(log_probs)
    gain = advantages - probabilities @ advantages
    gain = gain if natural else probabilities * gain
    covariance = probabilities @ (log_probs * gain) - (probabilities @ log_probs) * (probabilities @ gain)
    return -step_size * float(covariance)


def covariances(log_probs: np.ndarray, advantages: np.ndarray, mask: np.ndarray) -> Covariances:
    """The three forms on a batch of rollouts.

    Args:
        log_probs: (P, G, T), of the sampled tokens under the policy that is updated.
        advantages: (P, G), or (P, G, T) for a method that shapes them token by token.
        mask: (P, G, T), true at the tokens of a completion.

    Raises:
        DataError: shapes that do not fit, a completion without a token, or a value that is not finite at a token.
    """
    log_probs, advantages = np.asarray(log_probs, dtype=np.float64), np.asarray(advantages, dtype=np.float64)
    mask = np.asarray(mask, dtype=bool)
    if log_probs.ndim != 3 or mask.shape != log_probs.shape or advantages.shape not in (mask.shape, mask.shape[:2]):
        raise DataError(
            f"need (P, G, T) log-probabilities and mask and (P, G) advantages; got {log_probs.shape}, {mask.shape} and "
            f"{advantages.shape}."
        )
    per_token = np.broadcast_to(advantages if advantages.ndim == 3 else advantages[..., None], mask.shape)
    if not mask.any(axis=2).all() or not np.isfinite(log_probs[mask] + per_token[mask]).all():
        raise DataError("every completion needs a token, and every token a finite log-probability and advantage.")
    log_probs, per_token = np.where(mask, log_probs, 0.0), np.where(mask, per_token, 0.0)
    terms = _centred_products(log_probs, per_token, mask, axis=(0, 1, 2))
    by_group = _centred_products(log_probs, per_token, mask, axis=(1, 2))
    lengths = mask.sum(axis=2)
    actions = (log_probs.sum(axis=2) / lengths)[..., None], (per_token.sum(axis=2) / lengths)[..., None]
    bandit = _centred_products(*actions, np.ones_like(actions[0], dtype=bool), axis=(1, 2))
    return Covariances(
        token=float(terms.sum() / mask.sum()),
        group=float(np.mean(by_group.sum(axis=(1, 2)) / mask.sum(axis=(1, 2)))),
        bandit=float(bandit.mean()),
        terms=terms,
    )


def _centred_products(x: np.ndarray, y: np.ndarray, mask: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """(x - mean x)(y - mean y) with means over the axes' tokens; 0 where masked."""
    count = mask.sum(axis=axis, keepdims=True)
    mean_x, mean_y = (values.sum(axis=axis, keepdims=True) / count for values in (x, y))
    return np.where(mask, (x - mean_x) * (y - mean_y), 0.0)


def carriers(terms: np.ndarray, mask: np.ndarray, shares: Sequence[float] = SHARES) -> list[TokenShare]:
    """How much of the covariance the few tokens with most of it carry (the paper's Table 1).

    Args:
        terms, mask: (P, G, T), from `covariances`.
        shares: shares of the tokens, at least one token each.
    """
    ordered = np.sort(np.asarray(terms)[np.asarray(mask, dtype=bool)])[::-1]
    if ordered.size == 0:
        raise DataError("there is no token to look at.")
    total = float(ordered.sum())
    tops = [(share, ordered[: max(1, int(share * ordered.size))]) for share in shares]
    return [
        TokenShare(share, float(top.mean()), float(top.sum()) / total if total else float("nan")) for share, top in tops
    ]


def change_agreement(
    covariance: Sequence[float] | np.ndarray, entropy: Sequence[float] | np.ndarray
) -> ChangeAgreement:
    """Hold the covariance of each update against the change of the entropy that followed it.

    Args:
        covariance: covariance of each update (``entropy/covariance`` of the log).
        entropy: nats a token, of the same updates; that of the next one tells the change.

    Raises:
        DataError: fewer than four updates, or covariances that are all zero.
    """
    covariance, entropy = np.asarray(covariance, dtype=np.float64), np.asarray(entropy, dtype=np.float64)
    if covariance.ndim != 1 or covariance.shape != entropy.shape:
        raise DataError(f"need a covariance and an entropy an update; got {covariance.shape} and {entropy.shape}.")
    before, change = covariance[:-1], np.diff(entropy)
    known = np.isfinite(before) & np.isfinite(change)
    before, change = before[known], change[known]
    if len(before) < 3 or not before.any():
        raise DataError("need at least four updates with a finite covariance that is not zero throughout.")
    is_constant = np.ptp(before) == 0 or np.ptp(change) == 0
    return ChangeAgreement(
        step_size=-float(before @ change) / float(before @ before),
        correlation=float("nan") if is_constant else _rank_correlation(-before, change),
        same_sign=float(np.mean(np.sign(-before) == np.sign(change))),
        num_updates=len(before),
    )


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
