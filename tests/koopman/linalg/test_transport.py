"""Transport between uniform measures against linear programming."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from relax_rl.errors import DataError
from relax_rl.koopman import spectral_wasserstein
from relax_rl.koopman.linalg.transport import uniform_transport
from relax_rl.koopman.similarity.distances import MAX_COMMON_SIZE, spectral_wasserstein_matrix


def least_cost(cost: np.ndarray) -> float:
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    marginals = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return float(linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=marginals).fun)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 7), (12, 5), (17, 23), (20, 20)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_plan_is_the_cheapest_and_has_the_right_sums(shape: tuple[int, int], ties: bool) -> None:
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    cost = (3 * cost).round() if ties else cost
    plan = uniform_transport(cost)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(1), torch.full(shape[:1], 1 / shape[0], dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full(shape[1:], 1 / shape[1], dtype=torch.float64))
    assert float((plan * cost).sum()) == pytest.approx(least_cost(cost.numpy()), abs=1e-12)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_spectra_of_any_two_sizes_have_a_distance(order: float) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, generator=generator, dtype=torch.complex128) for size in (17, 23))
    assert MAX_COMMON_SIZE < 17 * 23
    cost = (left[:, None] - right).abs().numpy()
    expected = least_cost(cost**order) ** (1 / order)
    assert float(spectral_wasserstein(left, right, order=order)) == pytest.approx(expected, rel=1e-9)
    array: Any = right.numpy()
    scaled = spectral_wasserstein(1e200 * left, 1e200 * array, order=order)
    assert float(scaled) == pytest.approx(1e200 * expected, rel=1e-9)
    matrix = spectral_wasserstein_matrix([left, array, left], order=order)
    assert float(matrix[0, 1]) == pytest.approx(expected, rel=1e-9)
    assert float(matrix[0, 2]) == 0
    batch = spectral_wasserstein(torch.stack([left, 2 * left]), right, order=order)
    assert float(batch[0]) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_that_of_the_plan() -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(size, generator=generator, dtype=torch.complex128) for size in (17, 19))
    moved = left.clone()
    moved[3] += 1e-7
    slope = (spectral_wasserstein(moved, right) - spectral_wasserstein(left, right)) / 1e-7
    spectral_wasserstein(left.requires_grad_(), right).backward()
    assert left.grad is not None
    assert float(left.grad[3].real) == pytest.approx(float(slope), abs=1e-6)


def test_batches_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(DataError, match="as many on both sides"):
        spectral_wasserstein(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(DataError, match="finite"):
        uniform_transport(torch.tensor([[torch.nan]]))
