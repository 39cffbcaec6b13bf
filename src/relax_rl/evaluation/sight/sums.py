"""Additive sums of each question under each condition at each site, from which operators are fitted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relax_rl.koopman import Estimator, GramStatistics, dispersion_from_lifted
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.koopman.pairs.snapshots import gram_statistics

__all__ = ["NUM_MODES", "Sums", "dispersions", "leading_modes", "mean_angle", "sums_of", "unexplained"]

NUM_MODES = 4


@dataclass(frozen=True)
class Sums:
    """Sums over snapshot pairs of a lifted trajectory, float64; with a batch shape (...) in front.

    Attributes:
        statistics: G, A and L.
        total: (..., F) sum of the second snapshots.
    """

    statistics: GramStatistics
    total: Tensor

    @classmethod
    def stacked(cls, parts: Sequence[Sums]) -> Sums:
        """One batch of some single sums."""
        every = [part.statistics for part in parts]
        return cls(
            GramStatistics(*(torch.stack([getattr(one, name) for one in every]) for name in _NAMES)),
            torch.stack([part.total for part in parts]),
        )

    def weighted(self, counts: Tensor) -> Sums:
        """(R, U) counts of U stacked sums: R sums."""
        held = self.statistics
        made = [torch.tensordot(counts, tensor.double(), dims=1) for tensor in (held.gram, held.cross, held.future)]
        pairs = (counts @ held.num_pairs.double()).round().long()
        return Sums(GramStatistics(made[0], made[1], made[2], pairs), counts @ self.total)


_NAMES = ("gram", "cross", "future", "num_pairs")


def sums_of(lifted: Tensor) -> Sums:
    """Sums of one trajectory (T, F), finite, with T at least 2."""
    pairs = torch.ones((1, len(lifted) - 1), dtype=torch.bool, device=lifted.device)
    held = gram_statistics(lifted.unsqueeze(0), pairs)
    parts = GramStatistics(held.gram[0], held.cross[0], held.future[0], held.num_pairs[0])
    return Sums(parts, lifted[1:].double().sum(0))


def dispersions(lifted: Tensor, estimators: Sequence[Estimator]) -> dict[str, float]:
    """DSD of a lifted trajectory (T, F) by estimator; NaN where it is not defined."""
    mask = torch.ones((1, len(lifted)), dtype=torch.bool, device=lifted.device)
    found: dict[str, float] = {}
    with warnings.catch_warnings():
        # Of exploding eigenvalues, which the tables of the other spectra tell.
        warnings.simplefilter("ignore", RuntimeWarning)
        for estimator in estimators:
            measured = dispersion_from_lifted(lifted.unsqueeze(0), mask, estimator)
            found[estimator] = float(measured.values[0]) if bool(measured.is_defined[0]) else float("nan")
    return found


def unexplained(sums: Sums, operator: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """(...) squared one-step error of an operator, and squared distance of the second snapshots from a mean.

    Args:
        sums: sums of U questions.
        operator: (F, F), Y ~ X K.
        mean: (F,), of the second snapshots that the operator was fitted on.
    """
    held = sums.statistics
    trace = held.future.diagonal(dim1=-2, dim2=-1).sum(-1)
    error = trace - 2 * (operator * held.cross).sum((-2, -1)) + (operator * (held.gram @ operator)).sum((-2, -1))
    spread = trace - 2 * sums.total @ mean + held.num_pairs.double() * mean.square().sum()
    return error.clamp_min(0.0), spread.clamp_min(0.0)


def leading_modes(sums: Sums) -> list[Tensor]:
    """Orthonormal bases (F, r) of the modes whose eigenvalues have the largest modulus, one for each of the R sums.

    At least `NUM_MODES` of them: a pair of complex conjugates is taken as a whole.
    """
    operator = least_squares_operator(sums.statistics).matrix
    # X K = Y: modes of the dynamics are eigenvectors of the transpose, which acts on column states.
    values, vectors = eig(operator.mT)
    order = values.abs().argsort(dim=-1, descending=True)
    found: list[Tensor] = []
    for value, vector, places in zip(values, vectors, order, strict=True):
        count = min(NUM_MODES, len(places))
        sorted_values = value[places]
        if count < len(places) and sorted_values[count].imag != 0:
            gap = (sorted_values[count] - sorted_values[count - 1].conj()).abs()
            count += int(gap <= 1e-9 * sorted_values[count].abs())
        found.append(torch.linalg.qr(vector[:, places[:count]]).Q)
    return found


def mean_angle(first: Tensor, second: Tensor) -> float:
    """Mean principal angle in degrees between two subspaces, given by orthonormal bases (F, r) and (F, s)."""
    cosines = torch.linalg.svdvals(first.mH @ second).clamp(0.0, 1.0)
    return float(np.degrees(torch.arccos(cosines).mean().item()))
