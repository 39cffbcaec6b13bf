"""Bootstrap intervals against scipy, closed forms and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from relax_rl.errors import DataError
from relax_rl.statistics import intervals
from relax_rl.statistics.intervals import bootstrap_difference, bootstrap_mean


def test_equals_scipys_percentile_bootstrap_up_to_resampling_noise() -> None:
    values = np.random.default_rng(1).beta(0.5, 1.5, size=80)
    ours = bootstrap_mean(values, num_resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    assert ours is not None
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=3e-3)
    assert ours.high == pytest.approx(theirs.high, abs=3e-3)


def test_width_is_that_of_the_binomial() -> None:
    values = np.repeat([0.0, 1.0], [150, 50])
    estimate = bootstrap_mean(values, num_resamples=20_000)
    assert estimate is not None
    half = 1.96 * math.sqrt(0.25 * 0.75 / 200)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.05)


def test_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        estimate = bootstrap_mean(generator.binomial(16, 0.3, size=60) / 16, num_resamples=400, seed=trial)
        assert estimate is not None
        covered += estimate.low <= 0.3 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.985


def test_weights_make_the_pooled_mean() -> None:
    # two problems with 1 and 3 tokens of entropy 2 and 4: the token mean is (2 + 3 * 4) / 4
    estimate = bootstrap_mean([2.0, 4.0], [1.0, 3.0])
    assert estimate is not None
    assert estimate.value == pytest.approx(3.5)
    assert (estimate.low, estimate.high) == (2.0, 4.0)


def test_missing_values_are_left_out_and_counted() -> None:
    estimate = bootstrap_mean([1.0, math.nan, 3.0, 9.0], [1.0, 1.0, 1.0, 0.0])
    assert estimate is not None
    assert (estimate.value, estimate.num_problems) == (2.0, 2)
    assert bootstrap_mean([math.nan, math.nan]) is None
    single = bootstrap_mean([0.25])
    assert single is not None
    assert single.low == single.value == single.high == 0.25


def test_same_seed_same_interval_and_chunking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=37)
    whole = bootstrap_mean(values, seed=7)
    assert whole == bootstrap_mean(values, seed=7)
    assert whole != bootstrap_mean(values, seed=8)
    monkeypatch.setattr(intervals, "_ELEMENTS_PER_CHUNK", 37 * 13)
    assert bootstrap_mean(values, seed=7) == whole


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002 -- the global state is what is under test
    before = np.random.get_state()[1].copy()  # pyright: ignore[reportArgumentType]  # noqa: NPY002
    bootstrap_mean([1.0, 2.0])
    assert (np.random.get_state()[1] == before).all()  # pyright: ignore[reportArgumentType]  # noqa: NPY002


def test_pairing_sees_what_separate_intervals_hide() -> None:
    difficulty = np.random.default_rng(11).uniform(size=100)
    first, second = difficulty * 0.9, difficulty * 0.9 + 0.03
    difference = bootstrap_difference(first, second)
    alone, other = bootstrap_mean(first), bootstrap_mean(second)
    assert difference is not None
    assert alone is not None
    assert other is not None
    assert difference.value == pytest.approx(0.03)
    assert difference.low > 0.029
    assert alone.high > other.low


def test_a_paired_difference_is_the_difference_of_the_weighted_means() -> None:
    generator = np.random.default_rng(4)
    first, second = generator.normal(size=(2, 30))
    weights, others = generator.integers(1, 9, size=(2, 30))
    first[3], others[5] = math.nan, 0
    kept = [i for i in range(30) if i not in (3, 5)]
    difference = bootstrap_difference(first, second, weights, others)
    assert difference is not None
    expected = np.average(second[kept], weights=others[kept]) - np.average(first[kept], weights=weights[kept])
    assert difference.value == pytest.approx(expected)
    assert difference.low < difference.value < difference.high
    assert difference.num_problems == 28
    assert bootstrap_difference([math.nan], [1.0]) is None


@pytest.mark.parametrize("side", [0, 1])
def test_a_problem_without_weight_on_either_side_is_left_out(side: int) -> None:
    weights = [[1.0, 0.0], [1.0, 1.0]] if side == 0 else [[1.0, 1.0], [1.0, 0.0]]
    difference = bootstrap_difference([1.0, 5.0], [3.0, 90.0], *weights)
    assert difference is not None
    assert (difference.value, difference.low, difference.high, difference.num_problems) == (2.0, 2.0, 2.0, 1)


@pytest.mark.parametrize(
    ("values", "weights", "confidence"),
    [([1.0], [1.0, 2.0], 0.95), ([math.inf], None, 0.95), ([1.0], [-1.0], 0.95), ([1.0], None, 1.0)],
)
def test_refuses_nonsense(values: list[float], weights: list[float] | None, confidence: float) -> None:
    with pytest.raises(DataError):
        bootstrap_mean(values, weights, confidence=confidence)
    with pytest.raises(DataError, match="same problems"):
        bootstrap_difference([1.0], [1.0, 2.0])
