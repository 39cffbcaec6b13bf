"""How well a rank predicts: variational scores of Koopman models, and the rank that predicts best out of sample.

Wu and Noé 2020, "Variational approach for learning Markov processes from time series data" (J. Nonlinear Sci. 30).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.inputs import in_its_unit
from relax_rl.koopman.linalg.eigensolvers import eigh
from relax_rl.koopman.pairs.snapshots import GramStatistics, double_of, gram_statistics, joined_snapshots

__all__ = ["VampScore", "cross_validated_rank", "vamp_score"]

VampScore = Literal[1, 2, "E"]
"""VAMP-1, the sum of the singular values of the whitened operator; VAMP-2, of their squares; VAMP-E, the explained part
of the prediction error, which alone is meant for validation at unequal model complexity."""

_RCOND = 1e-10


def vamp_score(
    statistics: GramStatistics,
    score: VampScore = 2,
    *,
    rank: int | None = None,
    test: GramStatistics | None = None,
) -> float:
    """Score of the `rank` leading singular functions fitted on `statistics`, measured on `test`.

    In the whitened coordinates C = G^-1/2 A L^-1/2 = U S V*, the functions are x G^-1/2 U and y L^-1/2 V. Means are not
    taken off: center the observables first, or count a constant among them, which adds 1.

    Args:
        statistics: unbatched, of training data.
        score: see :data:`VampScore`.
        rank: number of singular functions; None: all.
        test: unbatched, of the same observables; None: the training data, on which the score never falls with the rank.

    Raises:
        ConfigError: an unknown score or a rank below 1.
        DataError: batched statistics, or none of a pair.
    """
    if score not in get_args(VampScore):
        raise ConfigError(f"Unknown score {score!r}; use 1, 2 or 'E'.")
    if rank is not None and rank < 1:
        raise ConfigError(f"rank must be at least 1, got {rank}.")
    test = statistics if test is None else test
    for sums in (statistics, test):
        if sums.gram.ndim != 2 or int(sums.num_pairs) < 1:
            raise DataError("A VAMP score needs the Gram statistics of one set of pairs; index or sum the batch.")
        if not all(bool(torch.isfinite(part).all()) for part in (sums.gram, sums.cross, sums.future)):
            raise DataError("The Gram statistics hold NaN or Inf; scale the snapshots, or leave that trajectory out.")
    left, right = _inverse_root(statistics.gram), _inverse_root(statistics.future)
    if left.shape[-1] == 0 or right.shape[-1] == 0:
        raise DataError("The Gram statistics are zero, and have no singular functions; scale the snapshots.")
    first, scales, second = torch.linalg.svd(left.mH @ statistics.cross @ right, full_matrices=False)
    kept = slice(0, rank)
    left, right, scales = left @ first[:, kept], right @ second.mH[:, kept], scales[kept]
    # Sums over the training pairs made U and V orthonormal; sums over the test pairs have another number of pairs.
    share = float(statistics.num_pairs) / float(test.num_pairs)
    gram, cross, future = (
        share * (left.mH @ test.gram @ left),
        share * (left.mH @ test.cross @ right),
        share * (right.mH @ test.future @ right),
    )
    if score == "E":
        diagonal = torch.diag(scales).to(cross.dtype)
        explained = 2 * (diagonal @ cross).diagonal().sum() - (diagonal @ gram @ diagonal @ future).diagonal().sum()
        return float(explained.real)
    values = torch.linalg.svdvals(_inverse_root(gram).mH @ cross @ _inverse_root(future))
    return float((values**score).sum())


def cross_validated_rank(
    snapshots: Tensor | Sequence[Tensor],
    pairs: Tensor | None = None,
    *,
    ranks: Sequence[int],
    folds: int = 5,
) -> tuple[int, list[float]]:
    """The rank of best mean VAMP-E on pairs that were not fitted, and the mean of each rank.

    Each fold is a run of consecutive pairs: neighbours in time are alike, so that folds drawn at random would test on
    what they were fitted on.

    Args:
        snapshots: (T, F) or a list of (T_i, F), one operator for all.
        pairs: (T-1,) bool; None: all neighbours, within each trajectory of a list.
        ranks: to compare, each at least 1.
        folds: at least 2.

    Raises:
        ConfigError: no rank, or fewer than 2 folds.
        DataError: fewer pairs than folds.
    """
    if not ranks or folds < 2:
        raise ConfigError(f"Give at least one rank and at least 2 folds, got {list(ranks)} and {folds}.")
    snapshots, pairs = joined_snapshots(snapshots, pairs)
    if snapshots.ndim != 2 or int(pairs.sum()) < folds:
        raise DataError(f"{folds} folds need snapshots (T, F) with at least {folds} pairs; use fewer folds.")
    snapshots, _ = in_its_unit(snapshots.detach().to(double_of(snapshots.dtype)))
    places = pairs.nonzero().squeeze(-1).tensor_split(folds)
    parts = [_statistics_of(snapshots, pairs, place) for place in places]
    totals = [0.0] * len(ranks)
    for held_out in range(folds):
        training = [part for index, part in enumerate(parts) if index != held_out]
        fitted = training[0]
        for part in training[1:]:
            fitted = fitted + part
        for index, rank in enumerate(ranks):
            totals[index] += vamp_score(fitted, "E", rank=rank, test=parts[held_out]) / folds
    best = max(range(len(ranks)), key=totals.__getitem__)
    return ranks[best], totals


def _statistics_of(snapshots: Tensor, pairs: Tensor, places: Tensor) -> GramStatistics:
    chosen = torch.zeros_like(pairs)
    chosen[places] = True
    sums = gram_statistics(snapshots.detach().unsqueeze(0), chosen.unsqueeze(0))
    return GramStatistics(sums.gram[0], sums.cross[0], sums.future[0], sums.num_pairs[0])


def _inverse_root(gram: Tensor) -> Tensor:
    """B with B* G B = 1 on the directions above rounding, (F, R)."""
    values, vectors = eigh(gram)
    kept = (values > _RCOND * values[-1]) & (values > 0)
    return vectors[:, kept] / values[kept].sqrt()
