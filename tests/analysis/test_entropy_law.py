"""The entropy law on data made by it, and on data that cannot bear it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from relax_rl.analysis import fit_entropy_law, forecast_from_start
from relax_rl.analysis.residuals import autocorrelation, resampled_series
from relax_rl.errors import DataError

A, B = 0.3, 0.9


def falling(steps: int) -> np.ndarray:
    """Entropy from 0.62 towards 0.05, as GRPO without intervention has it."""
    return 0.6 * np.exp(-3 * np.arange(steps) / steps) + 0.02


def autoregressive(generator: np.random.Generator, steps: int, rho: float, deviation: float = 0.02) -> np.ndarray:
    noise = generator.normal(scale=deviation, size=steps)
    for step in range(1, steps):
        noise[step] = rho * noise[step - 1] + np.sqrt(1 - rho**2) * noise[step]
    return noise


def test_exact_data_give_back_their_law() -> None:
    entropy = falling(60)
    law = fit_entropy_law(entropy, B - A * np.exp(entropy))
    assert (law.a, law.b, law.ceiling) == pytest.approx((A, B, B - A))
    assert law.explained == pytest.approx(1)
    assert law.predict([0.0, 1.0]) == pytest.approx([B - A, B - A * np.e])
    assert law.intervals["ceiling"] == pytest.approx((B - A, B - A))


def test_coefficients_are_those_of_scipys_regression() -> None:
    entropy = falling(80)
    reward = B - A * np.exp(entropy) + np.random.default_rng(3).normal(scale=0.02, size=80)
    law, line = fit_entropy_law(entropy, reward), stats.linregress(np.exp(entropy), reward)
    assert (law.a, law.b) == pytest.approx((-line.slope, line.intercept))
    assert law.explained == pytest.approx(line.rvalue**2)
    # Independent noise: the width of the interval is that of the textbook.
    low, high = law.intervals["a"]
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 78) * line.stderr, rel=0.2)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_intervals_cover_although_steps_resemble_each_other(rho: float) -> None:
    entropy = falling(200)
    covered: dict[str, int] = dict.fromkeys(("a", "b", "ceiling"), 0)
    by_textbook = 0
    for seed in range(150):
        reward = B - A * np.exp(entropy) + autoregressive(np.random.default_rng(seed), 200, rho)
        law = fit_entropy_law(entropy, reward, num_resamples=300)
        for name, truth in (("a", A), ("b", B), ("ceiling", B - A)):
            covered[name] += law.intervals[name][0] <= truth <= law.intervals[name][1]
        line = stats.linregress(np.exp(entropy), reward)
        by_textbook += abs(-line.slope - A) < 1.97 * line.stderr
    assert min(covered.values()) >= 0.89 * 150
    if rho == 0.8:
        assert by_textbook < 0.7 * 150  # what the correction is for


def test_resampled_series_have_the_spread_and_correlation_of_the_errors() -> None:
    noise = autoregressive(np.random.default_rng(0), 4000, 0.7)
    assert autocorrelation(noise) == pytest.approx(0.7, abs=0.03)
    drawn = resampled_series(noise, 50, np.random.default_rng(1))
    assert drawn.shape == (50, 4000)
    assert drawn.std() == pytest.approx(0.02, rel=0.05)
    assert np.mean([autocorrelation(series) for series in drawn]) == pytest.approx(0.7, abs=0.03)


def test_the_start_of_a_run_foretells_the_rest_if_the_law_holds() -> None:
    entropy = falling(240)
    reward = B - A * np.exp(entropy) + np.random.default_rng(5).normal(scale=0.005, size=240)
    found = forecast_from_start(entropy, reward)
    assert found.law.num_points == 36
    errors = found.law.predict(entropy[36:]) - reward[36:]
    assert found.root_mean_square == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert found.final == pytest.approx(errors[-24:].mean())
    assert found.root_mean_square < 0.02 < found.naive
    broken = np.where(np.arange(240) > 100, reward - 0.2, reward)
    assert forecast_from_start(entropy, broken).root_mean_square > 0.1


@pytest.mark.parametrize(
    ("entropy", "reward", "sentence"),
    [
        (falling(9), falling(9), "at least 10 steps"),
        (falling(20), falling(19), "one entropy and one reward a step"),
        (np.append(falling(19), np.nan), falling(20), "1 steps are not finite"),
        (falling(20) - 1, falling(20), "an entropy is negative"),
        (np.linspace(0.300, 0.301, 20), falling(20), "too little to read a law off"),
        (falling(20), np.exp(falling(20)), "does not rise as the entropy falls"),
        (falling(40), np.random.default_rng(2).normal(size=40), "told from noise|does not rise"),
    ],
)
def test_data_that_cannot_bear_the_law_are_refused(entropy: np.ndarray, reward: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        fit_entropy_law(entropy, reward)


def test_a_run_too_short_for_a_forecast_is_refused() -> None:
    entropy = falling(50)
    with pytest.raises(DataError, match="15% of 50 steps are 8"):
        forecast_from_start(entropy, B - A * np.exp(entropy))
    with pytest.raises(DataError, match="share is 1"):
        forecast_from_start(entropy, B - A * np.exp(entropy), share=1)


def test_analysis_loads_neither_torch_nor_scipy_until_asked() -> None:
    code = (
        "import sys, relax_rl.analysis as a; first = {'torch', 'scipy'} & set(sys.modules); a.fit_entropy_law; "
        "print(sorted(first), 'torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[] False\n"
