"""The AUC against scikit-learn, and its interval against many experiments."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relax_rl.errors import DataError
from relax_rl.statistics.auc import area_under_curve, bootstrap_auc


def test_it_is_scikit_learns_ties_included() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        labels = generator.random(30) < 0.4
        scores = generator.integers(0, 6, 30).astype(float)
        assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_whole_groups_are_resampled() -> None:
    generator = np.random.default_rng(1)
    scores, labels = generator.standard_normal(20), np.arange(20) % 2 == 0
    alone = bootstrap_auc(scores, labels)
    repeated = bootstrap_auc(np.tile(scores, 5), np.tile(labels, 5), list(range(20)) * 5)
    assert repeated.num_problems == 20
    assert repeated.value == pytest.approx(alone.value)
    # Copies of an example are no evidence.
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, abs=0.05)


def test_intervals_cover_what_is_true() -> None:
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        labels = np.arange(60) % 2 == 0
        found = bootstrap_auc(generator.standard_normal(60) + labels, labels, num_resamples=200)
        covered += found.low <= 0.7602 <= found.high  # Phi(1 / sqrt(2))
    assert covered >= 52


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_one_kind_is_refused(labels: list[bool]) -> None:
    with pytest.raises(DataError, match="both kinds"):
        area_under_curve([1.0, 2.0], labels)
    with pytest.raises(DataError, match="finite"):
        bootstrap_auc([np.nan, 2.0], [True, False])
