"""The sign-flip test against scipy's permutation test, and the interval against the test that it belongs to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from relax_rl.errors import DataError
from relax_rl.statistics.sign_flip import sign_flip_test


def scipy_p_value(differences: np.ndarray) -> float:
    def statistic(x: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(np.mean(x, axis=axis))

    return stats.permutation_test(  # pyright: ignore[reportReturnType]
        (differences,),
        statistic,
        permutation_type="samples",
        n_resamples=np.inf,  # pyright: ignore[reportArgumentType]
        alternative="greater",
    ).pvalue


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9), st.sampled_from([1.0, 1e-3, 7.0]))
def test_p_value_is_scipys(values: list[int], scale: float) -> None:
    differences = np.array(values) * scale
    test = sign_flip_test(differences)
    assert test is not None
    assert test.p_value == pytest.approx(scipy_p_value(differences), abs=1e-12)


def test_worked_by_hand() -> None:
    test = sign_flip_test([1.0, 2.0, 3.0])  # of 8 sums only 6 and -6 are as far from zero
    assert test is not None
    assert (test.value, test.p_value, test.num_pairs) == (2.0, 0.25, 3)
    assert (test.low, test.high) == (-math.inf, math.inf)


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 30), st.integers(0, 1000), st.floats(-2, 2))
def test_the_interval_holds_what_the_test_does_not_reject(count: int, seed: int, shift: float) -> None:
    differences = np.random.default_rng(seed).normal(shift, 1, count)
    test = sign_flip_test(differences)
    assert test is not None
    assert test.low <= test.value <= test.high
    for end, outward in ((test.low, -1.0), (test.high, 1.0)):
        inside, outside = (sign_flip_test(differences - end + outward * step) for step in (1e-6, -1e-6))
        assert inside is not None
        assert outside is not None
        assert inside.p_value > 0.05 >= outside.p_value


def test_under_no_difference_one_in_twenty_is_seen() -> None:
    generator = np.random.default_rng(0)
    seen = [sign_flip_test(generator.standard_cauchy(10)).p_value <= 0.05 for _ in range(800)]  # pyright: ignore
    assert 0.03 < np.mean(seen) < 0.07


def test_pairs_without_a_value_do_not_count() -> None:
    assert sign_flip_test([1.0, math.nan, 2.0, 3.0]) == sign_flip_test([1.0, 2.0, 3.0])
    assert sign_flip_test([math.nan]) is None
    with pytest.raises(DataError, match="finite"):
        sign_flip_test([math.inf])


def test_equal_differences() -> None:
    test = sign_flip_test([0.5] * 10)
    assert test is not None
    assert test.p_value == 2 / 2**10
    assert test.low == pytest.approx(0.5)
    assert test.high == pytest.approx(0.5)
    nothing = sign_flip_test([0.0] * 10)
    assert nothing is not None
    assert (nothing.p_value, nothing.low, nothing.high) == (1.0, 0.0, 0.0)


def test_with_many_pairs_it_agrees_with_scipys_sampled_test() -> None:
    differences = np.random.default_rng(5).normal(0.12, 1.0, size=150)
    reference = stats.permutation_test(
        (differences, np.zeros(150)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
        vectorized=True,
    )
    assert sign_flip_test(differences).p_value == pytest.approx(reference.pvalue, abs=0.02)  # pyright: ignore
    assert sign_flip_test(np.full(40, 1.0)).p_value == pytest.approx(1 / 10_000)  # pyright: ignore


def test_differences_of_zero_say_nothing_about_the_sign() -> None:
    with_zeros, without = (sign_flip_test(values) for values in ([0.0, 0.5, 0.0, 0.25], [0.5, 0.25]))
    assert with_zeros.p_value == without.p_value == 0.5  # pyright: ignore
    assert sign_flip_test(np.zeros(5)).p_value == 1.0  # pyright: ignore
