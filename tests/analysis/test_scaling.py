"""The sigmoid of reward against compute on data made by it, and on data that cannot bear it."""

from __future__ import annotations

import numpy as np
import pytest

from relax_rl.analysis import fit_scaling_curve
from relax_rl.errors import DataError

COMPUTE = np.linspace(5, 400, 60)
TRUTH = {"asymptote": 0.7, "exponent": 1.5, "midpoint": 60.0}


def reward(compute: np.ndarray) -> np.ndarray:
    return 0.2 + (TRUTH["asymptote"] - 0.2) / (1 + (TRUTH["midpoint"] / compute) ** TRUTH["exponent"])


def test_exact_data_give_back_their_curve() -> None:
    curve = fit_scaling_curve(COMPUTE, reward(COMPUTE), 0.2, num_resamples=5)
    assert (curve.asymptote, curve.exponent, curve.midpoint) == pytest.approx((0.7, 1.5, 60.0), rel=1e-6)
    assert curve.predict(60.0) == pytest.approx(0.45)  # half of the gain at the midpoint
    assert curve.predict([1e12])[0] == pytest.approx(0.7)


@pytest.mark.slow
def test_intervals_cover() -> None:
    covered = dict.fromkeys(TRUTH, 0)
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(scale=0.02, size=60)
        curve = fit_scaling_curve(COMPUTE, reward(COMPUTE) + noise, 0.2, num_resamples=40)
        for name, truth in TRUTH.items():
            covered[name] += curve.intervals[name][0] <= truth <= curve.intervals[name][1]
    assert min(covered.values()) >= 15


def test_the_unit_of_compute_does_not_matter() -> None:
    noisy = reward(COMPUTE) + np.random.default_rng(0).normal(scale=0.02, size=60)
    small, large = (fit_scaling_curve(scale * COMPUTE, noisy, 0.2, num_resamples=5) for scale in (1.0, 1e9))
    assert large.asymptote == pytest.approx(small.asymptote, rel=1e-4)
    assert large.midpoint == pytest.approx(1e9 * small.midpoint, rel=1e-4)


@pytest.mark.parametrize(
    ("compute", "values", "sentence"),
    [
        (COMPUTE[:7], reward(COMPUTE[:7]), "at least 8 points"),
        (COMPUTE[::-1], reward(COMPUTE), "rise from point to point"),
        (COMPUTE - 5, reward(COMPUTE), "above 0"),
        (COMPUTE, np.append(reward(COMPUTE[:-1]), np.nan), "finite"),
        (COMPUTE, reward(COMPUTE[:-1]), "one amount of compute"),
        (COMPUTE, 0.2 + COMPUTE / 1000, "does not bend"),
        (COMPUTE, 0.2 - reward(COMPUTE), "does not bend"),
    ],
)
def test_data_that_cannot_bear_the_curve_are_refused(compute: np.ndarray, values: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        fit_scaling_curve(compute, values, 0.2, num_resamples=5)
