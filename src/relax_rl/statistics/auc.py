"""Area under the ROC curve, with an interval by bootstrap over groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import rankdata

from relax_rl.errors import DataError
from relax_rl.statistics.intervals import Estimate

__all__ = ["area_under_curve", "bootstrap_auc"]


def area_under_curve(scores: Sequence[float] | np.ndarray, labels: Sequence[bool] | np.ndarray) -> float:
    """The probability that a positive scores above a negative, ties counting half; 0.5 is chance.

    Raises:
        DataError: scores and labels of different lengths, a score that is not finite, or labels that are all equal.
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != positive.shape or not np.isfinite(values).all():
        raise DataError(f"An AUC needs a finite score and a label each; got {values.shape} and {positive.shape}.")
    if positive.all() or not positive.any():
        raise DataError(f"The labels are all {bool(positive.any())}; an AUC needs examples of both kinds.")
    count = int(positive.sum())
    above = rankdata(values)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(values) - count)))


def bootstrap_auc(
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[bool] | np.ndarray,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The AUC with its percentile interval; resamples that hold one kind only are drawn again.

    Args:
        scores, labels: see :func:`area_under_curve`.
        groups: of each score, such as its problem; whole groups are resampled. None: each score is its own.

    Raises:
        DataError: as :func:`area_under_curve`, or labels that nearly every resample has of one kind.
    """
    value = area_under_curve(scores, labels)
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    names = list(range(len(values))) if groups is None else list(groups)
    members: dict[Hashable, list[int]] = {}
    for place, name in enumerate(names):
        members.setdefault(name, []).append(place)
    blocks = [np.array(places) for places in members.values()]
    generator = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(4 * num_resamples):
        drawn = np.concatenate([blocks[index] for index in generator.integers(0, len(blocks), len(blocks))])
        if 0 < positive[drawn].sum() < len(drawn):
            found.append(area_under_curve(values[drawn], positive[drawn]))
        if len(found) == num_resamples:
            break
    else:
        raise DataError("There are too few examples of one kind for an interval of the AUC; give more texts.")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high), len(blocks))
