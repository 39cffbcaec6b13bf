"""Kernel EDMD is EDMD on the kernel's observables, and holds where they are many."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.pairs.snapshots import pack_trajectories, snapshot_pairs
from relax_rl.koopman.spectra.dmd import dmd, edmd
from relax_rl.koopman.spectra.kernels import LinearKernel, PolynomialKernel, RBFKernel, kernel_edmd, median_distance


def assert_same_set(values, expected, atol: float) -> None:
    distances = np.abs(np.asarray(values)[:, None] - np.asarray(expected, dtype=complex))
    assert distances.shape[0] == distances.shape[1]
    np.testing.assert_allclose(distances.min(0), 0, atol=atol)


def wide(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((20, 300)))


def test_kernels_against_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    np.testing.assert_allclose(RBFKernel(0.7)(tx, ty), np.exp(-(cdist(x, y) ** 2) / (2 * 0.49)), atol=1e-14)
    np.testing.assert_allclose(PolynomialKernel(3, 0.5, 2.0)(tx, ty), (0.5 + x @ y.T / 2) ** 3, atol=1e-13)
    assert median_distance(tx) == pytest.approx(np.median(pdist(x)), rel=0.2)  # the lower of the two in the middle
    expected = np.exp(-(cdist(np.c_[x, x], np.c_[y, -y]) ** 2) / 2)
    np.testing.assert_allclose(RBFKernel(1.0)(tx + 1j * tx, ty - 1j * ty), expected, atol=1e-14)


@pytest.mark.parametrize("variant", ["least_squares", "forward_backward", "measure_preserving"])
def test_the_linear_kernel_is_dmd_of_more_features_than_snapshots(variant) -> None:
    states = wide()
    through_kernel = kernel_edmd(states, kernel=LinearKernel(), rank=7, variant=variant)
    plain = dmd(states, rank=7, variant=variant)
    assert_same_set(through_kernel.modes.eigenvalues, plain.eigenvalues, atol=1e-10)
    torch.testing.assert_close(through_kernel.modes.residuals.sort().values, plain.residuals.sort().values)
    torch.testing.assert_close(through_kernel.forecast(states[3], 4), plain.forecast(states[3], 4))
    assert not through_kernel.modes.is_interpolating


def test_the_polynomial_kernel_is_edmd_with_its_weighted_monomials() -> None:
    matrix = torch.tensor([[0.9, 0.1], [0.0, 0.8]], dtype=torch.float64)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (60, 2)))
    states, pairs = pack_trajectories(list(torch.stack([points, points @ matrix.T], 1)))
    fitted = kernel_edmd(states, pairs, kernel=PolynomialKernel(3))
    expected = [0.512, 0.576, 0.64, 0.648, 0.72, 0.729, 0.8, 0.81, 0.9, 1.0]
    np.testing.assert_allclose(np.sort(fitted.modes.eigenvalues.real), expected, atol=1e-12, rtol=0)
    assert fitted.modes.residuals.max() < 1e-12
    torch.testing.assert_close(fitted.forecast(points[0], 1)[0], matrix @ points[0], atol=1e-12, rtol=0)

    def weighted(s: torch.Tensor) -> torch.Tensor:
        x, y = s[..., 0], s[..., 1]
        return torch.stack([torch.ones_like(x), 2**0.5 * x, 2**0.5 * y, x * x, y * y, 2**0.5 * x * y], -1)

    noisy = states + 0.1 * torch.from_numpy(np.random.default_rng(3).standard_normal(states.shape))
    through_kernel = kernel_edmd(noisy, pairs, kernel=PolynomialKernel(2), rank=4)
    lifted = edmd(noisy, pairs, observables=weighted, rank=4)
    assert_same_set(through_kernel.modes.eigenvalues, lifted.eigenvalues, atol=1e-10)


def test_rbf_finds_the_eigenvalues_of_a_nonlinear_map() -> None:
    # y = h(0.9 h^-1(x)) with h = sinh has the eigenvalues 0.9^k, of the eigenfunctions arsinh(x)^k.
    points = np.random.default_rng(4).uniform(-2, 2, (300, 1))
    future = np.sinh(0.9 * np.arcsinh(points))
    states, pairs = pack_trajectories(list(torch.from_numpy(np.stack([points, future], 1))))
    fitted = kernel_edmd(states, pairs, kernel=RBFKernel(1.0), rank=20).modes
    np.testing.assert_allclose(fitted.eigenvalues[:3].abs(), 0.9 ** np.arange(3), atol=1e-3)
    assert fitted.residuals[:3].max() < 1e-4


def test_a_batch_is_each_trajectory_alone() -> None:
    states = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 15, 4)))
    mask = torch.ones((2, 15), dtype=torch.bool)
    mask[1, 9:] = False
    states[1, 9:] = torch.nan
    whole = kernel_edmd(states, snapshot_pairs(mask), kernel=RBFKernel(2.0), rank=5)
    for row, length in enumerate((15, 9)):
        alone = kernel_edmd(states[row, :length], kernel=RBFKernel(2.0), rank=5)
        assert_same_set(whole.modes.eigenvalues[row], alone.modes.eigenvalues, atol=1e-10)
        torch.testing.assert_close(
            whole.modes.residuals[row].sort().values, alone.modes.residuals.sort().values, atol=1e-9, rtol=0
        )
        forecast = whole.forecast(states[:, 2], 3)[row]
        torch.testing.assert_close(forecast, alone.forecast(states[row, 2], 3), atol=1e-9, rtol=1e-9)


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="snapshots hold NaN"):
        kernel_edmd(wide() / 0, kernel=LinearKernel())
    with pytest.raises(DataError, match="kernel of some"):
        kernel_edmd(1e9 * wide(), kernel=PolynomialKernel(99))
    with pytest.raises(ConfigError, match="bandwidth"):
        RBFKernel(0.0)
    with pytest.raises(ConfigError, match="degree"):
        PolynomialKernel(0)
    with pytest.raises(ConfigError, match="rank"):
        kernel_edmd(wide(), kernel=LinearKernel(), rank=20)
