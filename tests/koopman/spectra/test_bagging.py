"""Intervals of eigenvalues by trajectories drawn again."""

from functools import partial

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dmd
from relax_rl.koopman.spectra.bagging import bagged_spectrum


def trajectories(count: int, seed: int) -> list[torch.Tensor]:
    """z' = z diag(0.9, -0.6) + noise, stationary."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        states = [rng.standard_normal(2)]
        for _ in range(60):
            states.append(states[-1] * [0.9, -0.6] + 0.5 * rng.standard_normal(2))
        found.append(torch.from_numpy(np.stack(states[20:])))
    return found


def fit(parts: list[torch.Tensor]) -> torch.Tensor:
    return dmd(parts, rank=2).eigenvalues


@pytest.mark.slow
def test_intervals_cover_what_is_true_and_columns_belong_together() -> None:
    covered: list[bool] = []
    found = bagged_spectrum(trajectories(12, 0), fit, bags=2)
    for seed in range(40):
        found = bagged_spectrum(trajectories(12, seed), fit, bags=60, seed=seed)
        low, high = found.interval(lambda values: values.real)
        truth = torch.where(found.eigenvalues.real > 0, 0.9, -0.6)
        covered += ((low <= truth) & (truth <= high)).tolist()
    # 95 % in the limit; with 12 trajectories and 60 bags a little less. Three binomial deviations around 0.9.
    assert 0.8 <= np.mean(covered) <= 1.0
    assert found.num_failures == 0
    assert (found.bags.real.sign() == found.eigenvalues.real.sign()).all()


def test_the_bags_are_those_of_the_seed_and_of_fits_on_the_draws() -> None:
    parts = trajectories(4, 0)
    first, again = bagged_spectrum(parts, fit, bags=5, seed=3), bagged_spectrum(parts, fit, bags=5, seed=3)
    torch.testing.assert_close(first.bags, again.bags, atol=0, rtol=0)
    drawn = torch.randint(4, (4,), generator=torch.Generator().manual_seed(3)).tolist()
    values = fit([parts[index] for index in drawn])
    assert sorted(first.bags[0].real.tolist()) == pytest.approx(sorted(values.real.tolist()))
    dispersion = first.interval(lambda values: values.abs().var(-1, correction=0), level=0.5)
    expected = first.bags.abs().var(-1, correction=0)
    torch.testing.assert_close(torch.stack(dispersion), expected.quantile(torch.tensor([0.25, 0.75]).double()))


def test_bags_that_cannot_be_fitted_are_counted_and_too_many_refused() -> None:
    calls = iter(range(1000))

    def fails(parts: list[torch.Tensor], each: int) -> torch.Tensor:
        if next(calls) % each == 1:
            raise DataError("no direction is left")
        return fit(parts)

    assert bagged_spectrum(trajectories(3, 1), partial(fails, each=4), bags=8).num_failures == 2

    def always_fails_on_draws(parts: list[torch.Tensor]) -> torch.Tensor:
        if next(broken):
            raise DataError("no direction is left")
        return fit(parts)

    broken = iter([False] + [True] * 8)
    with pytest.raises(DataError, match="Only 0 of 8 bags"):
        bagged_spectrum(trajectories(3, 1), always_fails_on_draws, bags=8)


def test_what_tells_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="One trajectory tells nothing"):
        bagged_spectrum(trajectories(1, 0), fit)
    with pytest.raises(ConfigError, match="bags must be at least 2"):
        bagged_spectrum(trajectories(2, 0), fit, bags=1)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        bagged_spectrum(trajectories(2, 0), fit, bags=3).interval(level=95)
