"""Statistics of seeds and problems against scipy, published power tables, and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from relax_rl.errors import DataError
from relax_rl.statistics.seeded_means import detectable_difference, holm, seeded_mean, seeds_needed


def simulated(
    generator: np.random.Generator, seeds: int, problems: int, seed: float, problem: float, rest: float
) -> np.ndarray:
    shapes = [(seed, (seeds, 1)), (problem, (1, problems)), (rest, (seeds, problems))]
    return sum((scale * generator.normal(size=shape) for scale, shape in shapes), np.zeros(()))


def test_what_differs_between_seeds_alone_is_students_paired_t() -> None:
    by_seed = np.array([0.02, 0.05, -0.01, 0.03])
    mean = seeded_mean(np.repeat(by_seed[:, None], 7, axis=1))
    expected = stats.ttest_1samp(by_seed, 0.0)
    assert mean is not None
    assert mean.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (mean.low, mean.high) == pytest.approx((interval.low, interval.high))
    assert mean.seed_deviation == pytest.approx(by_seed.std(ddof=1))
    assert mean.problem_variance == 0


def test_paired_difference_is_scipys_related_t_where_problems_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    first, second = (simulated(generator, 6, 50, 0.1, 0.0, 0.02) for _ in range(2))
    mean = seeded_mean(second - first)
    assert mean is not None
    related = stats.ttest_rel(second.mean(axis=1), first.mean(axis=1))
    assert mean.p_value >= related.pvalue  # never bolder than the seeds alone
    assert mean.p_value == pytest.approx(related.pvalue, rel=0.1)


def test_mean_squares_are_those_of_the_two_way_table() -> None:
    # Worked by hand: rows 1 2 3 / 2 4 9; grand mean 3.5, rows 2 and 5, columns 1.5, 3, 6.
    # MS_seed = 3 (1.5^2 + 1.5^2) / 1 = 13.5; MS_problem = 2 (4 + 0.25 + 6.25) / 2 = 10.5;
    # rest = -+1, -+0.5, +-1.5 twice: MS_rest = 2 (1 + 0.25 + 2.25) / 2 = 3.5.
    mean = seeded_mean([[1, 2, 3], [2, 4, 9]])
    assert mean is not None
    assert mean.value == 3.5
    assert mean.seed_deviation == pytest.approx(math.sqrt(13.5 / 3))
    assert mean.problem_variance == pytest.approx((10.5 - 3.5) / 6)
    variance, dof = 20.5 / 6, 20.5**2 / (13.5**2 / 1 + 10.5**2 / 2 + 3.5**2 / 2)
    half_widths = [stats.t.ppf(0.975, 1) * math.sqrt(13.5 / 6), stats.t.ppf(0.975, dof) * math.sqrt(variance)]
    assert mean.high - mean.value == pytest.approx(max(half_widths))


def mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Of seeds, problems and the rest, from variances of means."""
    seeds, problems = table.shape
    seed = problems * table.mean(axis=1).var(ddof=1)
    problem = seeds * table.mean(axis=0).var(ddof=1)
    total = table.var() * table.size
    return seed, problem, (total - seed * (seeds - 1) - problem * (problems - 1)) / ((seeds - 1) * (problems - 1))


def test_problems_widen_the_interval_where_they_matter() -> None:
    table = np.array([[1.0, 2.0, 9.0, 4.0], [2.0, 2.0, 8.0, 5.0], [0.0, 3.0, 9.0, 5.0]])
    seed, problem, rest = mean_squares(table)
    variance = (seed + problem - rest) / 12
    dof = (12 * variance) ** 2 / (seed**2 / 2 + problem**2 / 3 + rest**2 / 6)
    mean = seeded_mean(table)
    assert mean is not None
    assert mean.high - mean.value == pytest.approx(stats.t.ppf(0.975, dof) * math.sqrt(variance))
    assert mean.high - mean.value > stats.t.ppf(0.975, 2) * math.sqrt(seed / 12)


def test_degrees_of_freedom_do_not_vanish_where_mean_squares_cancel() -> None:
    generator = np.random.default_rng(0)
    tables = (generator.normal(size=(4, 64)) for _ in range(1000))
    # Seeds that agree by luck, and problems that vary a little more than the rest.
    table = next(t for t in tables if (m := mean_squares(t))[0] < 0.05 and m[2] < m[1] < 1.1 * m[2])
    seed, problem, rest = mean_squares(table)
    mean = seeded_mean(table)
    assert mean is not None
    bound = stats.t.ppf(0.975, 3) * math.sqrt((seed + problem - rest) / 256)
    bound = max(bound, stats.t.ppf(0.975, 3 * 63) * math.sqrt(rest / 256))  # seeds this close are no surer than that
    assert mean.high - mean.value <= bound * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seeds", "seed", "problem", "rest"), [(3, 0.1, 0.0, 1.0), (3, 0.1, 1.0, 1.0), (5, 0.5, 0.5, 1.0), (2, 0.0, 0.5, 1)]
)
def test_intervals_cover_and_no_effect_is_not_claimed(seeds: int, seed: float, problem: float, rest: float) -> None:
    generator = np.random.default_rng(7)
    covered = claimed = claimed_by_problems = 0
    for _ in range(400):
        table = simulated(generator, seeds, 64, seed, problem, rest)
        mean = seeded_mean(table)
        assert mean is not None
        covered += mean.low <= 0 <= mean.high
        claimed += mean.p_value < 0.05
        claimed_by_problems += stats.ttest_1samp(table.mean(axis=0), 0.0).pvalue < 0.05
    assert covered >= 0.92 * 400
    assert claimed <= 0.075 * 400
    if seed > 0 and problem == 0:
        assert claimed_by_problems > 0.08 * 400  # problems of a few runs, taken for replicates, claim what is not there


def test_one_seed_has_an_interval_over_problems_and_no_p_value() -> None:
    values = np.random.default_rng(0).normal(size=40)
    mean = seeded_mean(values[None])
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean is not None
    assert (mean.low, mean.high) == pytest.approx((interval.low, interval.high))
    assert math.isnan(mean.p_value)
    assert math.isnan(mean.seed_deviation)
    assert math.isnan(mean.problem_variance)


def test_problems_without_a_value_are_left_out_and_nothing_is_none() -> None:
    mean = seeded_mean([[1.0, 2.0, float("nan")], [3.0, 5.0, 7.0]])
    assert mean == seeded_mean([[1.0, 2.0], [3.0, 5.0]])
    assert seeded_mean([[float("nan")], [1.0]]) is None
    with pytest.raises(DataError, match="finite"):
        seeded_mean([[1.0, float("inf")]])


def test_equal_runs_have_p_one_and_a_constant_difference_p_zero() -> None:
    same, shifted = seeded_mean(np.zeros((3, 5))), seeded_mean(np.full((3, 5), 0.1))
    assert same is not None
    assert shifted is not None
    assert (same.p_value, same.low, same.high) == (1.0, 0.0, 0.0)
    assert shifted.p_value < 1e-9


def test_holm_by_hand() -> None:
    # m = 4: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 lifted to what came before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    corrected = holm([0.02, math.nan])
    assert corrected[0] == 0.02
    assert math.isnan(corrected[1])
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_the_power_tables(effect: float, seeds: int) -> None:
    # Paired t-test, two-sided 0.05, power 0.8: G*Power's manual and Cohen's tables.
    assert seeds_needed(effect, 1.0) == seeds
    assert seeds_needed(-3 * effect, 3.0) == seeds


def test_power_that_seeds_cannot_buy() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.1, 0.1, problem_variance=0.01) is None  # lost in the choice of problems
    assert seeds_needed(0.1, 0.0) == 2


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_detectable_difference_is_where_the_power_is(seeds: int) -> None:
    difference = detectable_difference(seeds, 0.05, 0.0004, alpha=0.01)
    shift, dof = difference / math.sqrt(0.05**2 / seeds + 0.0004), seeds - 1
    generator = np.random.default_rng(0)
    t = (generator.normal(size=200_000) + shift) / np.sqrt(generator.chisquare(dof, size=200_000) / dof)
    assert np.mean(np.abs(t) > stats.t.ppf(0.995, dof)) == pytest.approx(0.8, abs=0.005)


def test_a_value_that_json_has_as_null_is_missing_and_single_precision_is_read_as_double() -> None:
    table: list[list[float | None]] = [[0.5, None, 0.25], [0.75, 0.125, 0.5]]
    expected = seeded_mean([[0.5, 0.25], [0.75, 0.5]])
    assert seeded_mean(table) == expected  # pyright: ignore[reportArgumentType]
    assert seeded_mean(np.array([[0.5, 0.25], [0.75, 0.5]], dtype=np.float32)) == expected


def test_detectable_difference_where_a_coin_would_do_almost_as_well() -> None:
    """At a level of 1/2 and a power of 0.6 less than one standard error is enough."""
    difference = detectable_difference(5, 1.0, alpha=0.5, power=0.6)
    shift, bound = difference * math.sqrt(5), stats.t.ppf(0.75, 4)
    assert shift < 1
    assert stats.nct.sf(bound, 4, shift) + stats.nct.cdf(-bound, 4, shift) == pytest.approx(0.6, abs=1e-3)


def test_means_of_seeds_that_happen_to_coincide_are_not_certain() -> None:
    found = seeded_mean([[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5]])
    assert found is not None
    assert found.low < 0 < found.value == 0.25 < found.high
    # By hand: MS_rest = 0.5 / 3 over 8 values, t = 0.25 / sqrt(1/48) = sqrt(3), 3 degrees of freedom.
    assert found.p_value == pytest.approx(2 * stats.t.sf(math.sqrt(3), 3))
