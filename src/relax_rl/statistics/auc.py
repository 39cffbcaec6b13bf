"""Area under the ROC curve, with an interval by bootstrap over groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from relax_rl.errors import DataError
from relax_rl.statistics.intervals import Estimate

__all__ = ["area_under_curve", "bootstrap_auc", "bootstrap_auc_difference", "bootstrap_auc_within"]


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
        groups: group of each score, such as its problem; whole groups are resampled. None: each score is its own.

    Raises:
        DataError: as :func:`area_under_curve`, or labels that nearly every resample has of one kind.
    """
    value = area_under_curve(scores, labels)
    compared = _Compared.of(scores, labels, groups)
    found = compared.areas(compared.resamples(num_resamples, seed))
    return _estimate(value, found, confidence, len(compared.pairs))


def bootstrap_auc_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    labels: Sequence[bool] | np.ndarray,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """AUC of the second scores minus that of the first, both on the same resamples of the same examples.

    Args and errors as of :func:`bootstrap_auc`.
    """
    value = area_under_curve(second, labels) - area_under_curve(first, labels)
    before, after = _Compared.of(first, labels, groups), _Compared.of(second, labels, groups)
    drawn = before.resamples(num_resamples, seed)
    return _estimate(value, after.areas(drawn) - before.areas(drawn), confidence, len(before.pairs))


def bootstrap_auc_within(
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[bool] | np.ndarray,
    groups: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """The AUC over pairs of a positive and a negative of the same group, so that nothing of the group itself counts.

    Returns:
        The estimate, its interval by resampling the groups that hold both kinds; None where none does.

    Raises:
        DataError: as :func:`area_under_curve`.
    """
    area_under_curve(scores, labels)
    compared = _Compared.of(scores, labels, groups)
    own = compared.pairs.diagonal() > 0
    if not own.any():
        return None
    won, total = compared.won.diagonal()[own], compared.pairs.diagonal()[own]
    drawn = np.random.default_rng(seed).integers(0, len(total), (num_resamples, len(total)))
    found = won[drawn].sum(1) / total[drawn].sum(1)
    return _estimate(float(won.sum() / total.sum()), found, confidence, len(total))


@dataclass(frozen=True)
class _Compared:
    """Pairs of a positive and a negative, summed over the G groups that they are of.

    Attributes:
        won: (G, G) pairs of a positive of the row's group that scores above a negative of the column's; ties half.
        pairs: (G, G) all of them.
    """

    won: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(
        cls,
        scores: Sequence[float] | np.ndarray,
        labels: Sequence[bool] | np.ndarray,
        groups: Sequence[Hashable] | None,
    ) -> _Compared:
        values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
        places: dict[Hashable, int] = {}
        owner = np.array([places.setdefault(g, len(places)) for g in (groups or range(len(values)))])
        right, wrong = np.flatnonzero(positive), np.flatnonzero(~positive)
        order = wrong[np.argsort(owner[wrong], kind="stable")]
        of_wrong = np.bincount(owner[wrong], minlength=len(places))
        has, starts = np.flatnonzero(of_wrong), np.cumsum(of_wrong) - of_wrong
        won = np.zeros((len(places), len(places)))
        for row in right:  # a row at a time: all pairs at once would not fit where there are many
            beats = (values[row] > values[order]) + 0.5 * (values[row] == values[order])
            won[owner[row], has] += np.add.reduceat(beats, starts[has])
        return cls(won, np.outer(np.bincount(owner[right], minlength=len(places)), of_wrong).astype(np.float64))

    def areas(self, drawn: np.ndarray) -> np.ndarray:
        """(B,) AUC of resamples, each given by how often it holds each group, (B, G)."""
        return ((drawn @ self.won) * drawn).sum(1) / ((drawn @ self.pairs) * drawn).sum(1)

    def resamples(self, count: int, seed: int) -> np.ndarray:
        """(B, G) how often each group is drawn, of resamples with both kinds.

        Raises:
            DataError: nearly every resample has one kind only.
        """
        generator, size = np.random.default_rng(seed), len(self.pairs)
        has_right, has_wrong = self.pairs.any(1), self.pairs.any(0)
        found: list[np.ndarray] = []
        for _ in range(4 * count):
            drawn = np.bincount(generator.integers(0, size, size), minlength=size)
            if drawn[has_right].any() and drawn[has_wrong].any():
                found.append(drawn)
            if len(found) == count:
                return np.array(found, dtype=np.float64)
        raise DataError("There are too few examples of one kind for an interval of the AUC; give more texts.")


def _estimate(value: float, found: np.ndarray, confidence: float, num_groups: int) -> Estimate:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high), num_groups)
