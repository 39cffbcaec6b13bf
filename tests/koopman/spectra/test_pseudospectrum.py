"""The pseudospectrum against singular values of its definition, and against distances that are known."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import gram_from_trajectories, pseudospectrum
from relax_rl.koopman.spectra.pseudospectrum import complex_grid, pseudospectrum_from_statistics

POINTS = torch.tensor([[0.3 + 0.4j, 0.3 - 0.4j], [-0.9 + 0j, 1.1 + 0.2j]])


@pytest.fixture(scope="module")
def walk() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((60, 5)).cumsum(0))


def by_singular_values(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """min ||Y v - z X v|| over ||X v|| = 1: the smallest singular value of (Y - z X) R^-1 with X = Q R."""
    inverse = np.linalg.inv(np.linalg.qr(x)[1])
    return np.array([np.linalg.svd((y - z * x) @ inverse, compute_uv=False)[-1] for z in points.flat]).reshape(
        points.shape
    )


def test_equals_its_definition_from_snapshots_and_from_statistics(walk: torch.Tensor) -> None:
    states = walk.numpy()
    expected = by_singular_values(states[:-1], states[1:], POINTS.numpy())
    np.testing.assert_allclose(pseudospectrum(walk, POINTS), expected, rtol=1e-6)
    np.testing.assert_allclose(pseudospectrum(walk, POINTS, chunk_size=1), expected, rtol=1e-6)
    pieces = [walk[:30], walk[29:]]
    np.testing.assert_allclose(pseudospectrum(pieces, POINTS), expected, rtol=1e-6)
    statistics = gram_from_trajectories(pieces, lambda x: x)
    np.testing.assert_allclose(pseudospectrum_from_statistics(statistics, POINTS), expected, rtol=1e-5)


def test_complex_data_are_not_folded_onto_the_upper_half() -> None:
    states = np.random.default_rng(1).standard_normal((40, 6)).view(complex)
    states = (states * np.exp(0.5j)).cumsum(0)
    expected = by_singular_values(states[:-1], states[1:], POINTS.numpy())
    assert abs(expected[0, 0] - expected[0, 1]) > 0.01
    np.testing.assert_allclose(pseudospectrum(torch.from_numpy(states), POINTS), expected, rtol=1e-6)


def test_zero_at_the_eigenvalues_of_exact_dynamics_and_the_distance_elsewhere_if_normal() -> None:
    # An eighth of a turn a step and 32 pairs: whole turns, so that the rotation is unitary under the points' measure.
    angles = np.pi / 4 * np.arange(33)
    states = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1))
    points = torch.tensor([1.0 + 1.0j, 1.0 - 1.0j, 0.0 + 0j, 2.0 + 0j]).to(torch.complex128)
    points[:2] /= 2**0.5
    distances = [0.0, 0.0, 1.0, abs(2 - np.exp(0.25j * np.pi))]
    np.testing.assert_allclose(pseudospectrum(states, points), distances, atol=4e-8)


def test_wide_noise_has_no_point_near_zero_and_wide_exact_dynamics_have() -> None:
    rng = np.random.default_rng(2)
    noise = torch.from_numpy(rng.standard_normal((30, 200)))
    assert pseudospectrum(noise, complex_grid(1.2, 9)).min() > 0.3
    angle = np.exp(0.7j) ** np.arange(30)
    states = torch.from_numpy(np.stack([angle.real, angle.imag], 1) @ rng.standard_normal((2, 200)))
    for snapshots in (states, states + 1e-3 * noise):
        values = pseudospectrum(snapshots, torch.tensor([np.exp(0.7j), np.exp(-0.7j), 0.2 + 0j]))
        assert values[:2].max() < 5e-3
        assert values[2] > 0.3


def test_wide_complex_dynamics_are_found_on_their_side_of_the_real_axis() -> None:
    rng = np.random.default_rng(3)
    mode, noise = (rng.standard_normal((n, 400)).view(complex) for n in (1, 30))
    states = torch.from_numpy(np.exp(0.7j) ** np.arange(30)[:, None] * mode + 1e-3 * noise)
    values = pseudospectrum(states, torch.tensor([np.exp(0.7j), np.exp(-0.7j)]))
    assert values[0] < 5e-3
    assert values[1] > 0.3


def test_what_cannot_be_answered_is_said(walk: torch.Tensor) -> None:
    with pytest.raises(DataError, match="no residual that means anything"):
        pseudospectrum(walk[:6], POINTS)
    with pytest.raises(DataError, match="leave nothing to judge"):
        pseudospectrum_from_statistics(gram_from_trajectories([walk[:6]], lambda x: x), POINTS)
    with pytest.raises(ConfigError, match="chunk_size"):
        pseudospectrum(walk, POINTS, chunk_size=0)
    with pytest.raises(ConfigError, match="grid"):
        complex_grid(0.0)


def test_the_grid_is_the_square_with_the_real_axis_along_columns() -> None:
    grid = complex_grid(1.5, 3)
    assert grid[0, 0] == -1.5 - 1.5j
    assert grid[0, 2] == 1.5 - 1.5j
    assert grid[1, 1] == 0
