"""Assignments against scipy's, and Wasserstein distances against numbers worked by hand and the axioms of a metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.linalg.assignment import optimal_assignment
from relax_rl.koopman.similarity.distances import spectral_wasserstein, spectral_wasserstein_matrix


def points(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    B=st.integers(1, 9),
    n=st.integers(1, 9),
    extra=st.integers(0, 4),
    levels=st.sampled_from([None, 2, 4]),
)
def test_assignments_cost_what_those_of_scipy_cost(seed: int, B: int, n: int, extra: int, levels: int | None) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.standard_normal((B, n, n + extra)) if levels is None else rng.integers(0, levels, (B, n, n + extra))
    columns = optimal_assignment(torch.from_numpy(cost.astype(float)))
    for matrix, chosen in zip(cost, columns.numpy(), strict=True):
        assert len(set(chosen)) == n
        rows, best = linear_sum_assignment(matrix)
        assert matrix[np.arange(n), chosen].sum() == pytest.approx(matrix[rows, best].sum(), abs=1e-12)


def test_a_large_matrix_of_mixed_signs_is_assigned_as_by_scipy() -> None:
    cost = np.random.default_rng(1).standard_normal((60, 75)) * 1e6 - 3e6
    chosen = optimal_assignment(torch.from_numpy(cost)).numpy()
    assert np.array_equal(chosen, linear_sum_assignment(cost)[1])


def test_costs_that_cannot_be_assigned_are_refused() -> None:
    with pytest.raises(DataError, match="transpose"):
        optimal_assignment(torch.zeros(3, 2))
    with pytest.raises(DataError, match="NaN or Inf"):
        optimal_assignment(torch.tensor([[0.0, math.nan], [1.0, 2.0]]))
    assert optimal_assignment(torch.zeros(0, 3, 3)).shape == (0, 3)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_two_point_masses_three_apart_are_three_apart(order: float) -> None:
    left, right = torch.tensor([1 + 1j]), torch.tensor([1 - 2j])
    assert spectral_wasserstein(left, right, order=order).item() == pytest.approx(3.0, rel=1e-14)


def test_the_plan_is_the_best_one_not_that_of_the_order_given() -> None:
    left, right = torch.tensor([0.0, 10.0]), torch.tensor([11.0, 2.0])
    assert spectral_wasserstein(left, right).item() == pytest.approx(1.5)
    assert spectral_wasserstein(left, right, order=2).item() == pytest.approx(math.sqrt(2.5))


def test_unequal_sizes_split_mass() -> None:
    # A third of the mass moves by 6, the rest stays.
    assert spectral_wasserstein(torch.tensor([0.0]), torch.tensor([0.0, 0.0, 6.0])).item() == pytest.approx(2.0)
    left, right = np.array([0.0, 1.0, 5.0, 9.0]), np.array([2.0, 3.0, 7.0, 7.5, 8.0, -1.0])
    expected = wasserstein_distance(left, right)
    assert spectral_wasserstein(torch.tensor(left), torch.tensor(right)).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    order=st.sampled_from([1.0, 2.0]),
)
def test_it_is_a_metric_on_multisets_of_any_sizes(seed: int, sizes: tuple[int, int, int], order: float) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (points(rng, size) for size in sizes)

    def distance(x: torch.Tensor, y: torch.Tensor) -> float:
        return spectral_wasserstein(x, y, order=order).item()

    assert distance(a, a[torch.from_numpy(rng.permutation(len(a)))]) <= 1e-12
    assert distance(a, a.repeat(2)) <= 1e-12
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12
    assert distance(a, a + 1e-3) == pytest.approx(1e-3, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=7))
@pytest.mark.slow
def test_the_matrix_holds_the_distance_of_every_pair(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    spectra = [points(rng, size) for size in sizes]
    matrix = spectral_wasserstein_matrix(spectra, order=2)
    for i, left in enumerate(spectra):
        for j, right in enumerate(spectra):
            expected = 0.0 if i == j else spectral_wasserstein(left, right, order=2).item()
            assert matrix[i, j].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_the_gradient_is_that_of_finite_differences_and_finite_where_the_sets_coincide(order: float) -> None:
    rng = np.random.default_rng(2)
    left, right = points(rng, 4, 3).requires_grad_(), points(rng, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: spectral_wasserstein(x, y, order=order), (left, right))
    (gradient,) = torch.autograd.grad(spectral_wasserstein(left, left.detach(), order=order).sum(), left)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_spectra_that_cannot_be_compared_are_refused_in_a_sentence() -> None:
    with pytest.raises(DataError, match="without eigenvalues"):
        spectral_wasserstein(torch.zeros(0), torch.zeros(2))
    with pytest.raises(ConfigError, match="order"):
        spectral_wasserstein(torch.zeros(2), torch.zeros(2), order=0.5)
