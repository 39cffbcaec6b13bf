"""Residuals against their definitions, where each kind holds and where it is zero of nothing but noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.residuals import (
    GRAM_RESIDUAL_FLOOR,
    disjoint_folds,
    dual_residuals,
    gram_residuals,
    mean_residuals,
    primal_residuals,
    residual_kind,
)


def reduced_dmd(x: np.ndarray, y: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues, right and left eigenvectors (F, R) of K = pinv(X) Y on the leading right singular directions."""
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    basis = vh[:rank].conj().T
    matrix = (u[:, :rank] / s[:rank]).conj().T @ y @ basis
    values, right = np.linalg.eig(matrix)
    left = np.linalg.inv(right).conj().T
    return values, basis @ right, basis @ left


def torched(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def exact_orbit(rank: int, width: int, T: int, dtype: type = np.float64) -> np.ndarray:
    """Snapshots (T, width) of a linear system with `rank` modes on and inside the unit circle."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0.3, 2.5, rank // 2)
    moduli = np.where(np.arange(rank // 2) % 2 == 0, 1.0, 0.95)
    modes = np.exp(1j * angles) * moduli
    states = np.power(modes[None], np.arange(T)[:, None])
    return (np.concatenate([states.real, states.imag], 1) @ rng.standard_normal((rank, width))).astype(dtype)


def test_pure_noise_has_a_dual_residual_of_one_and_a_primal_one_of_nothing() -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 30, 200))
    values, right, left = reduced_dmd(x, y, 30)
    assert residual_kind(30, 200, 30) == "dual"
    assert primal_residuals(*torched(x, y, values, right)).max() < 1e-12
    dual = dual_residuals(*torched(x, y, values, left))
    assert dual.median().item() == pytest.approx(1.0, abs=0.05)
    # The printed form: v* L v / v* v - |lambda|^2 in the kernel coordinates of X X* and Y X*, with L from Y Y*.
    eigenvalues, vectors = np.linalg.eigh(x @ x.T)
    whiten = vectors / np.sqrt(eigenvalues)
    K, L = whiten.T @ y @ x.T @ whiten, whiten.T @ y @ y.T @ whiten
    kernel_values, kernel_left = np.linalg.eig(K.conj().T)
    printed = np.einsum("ij,ik,kj->j", kernel_left.conj(), L, kernel_left).real - np.abs(kernel_values) ** 2
    np.testing.assert_allclose(np.sort(dual), np.sort(np.sqrt(printed)), rtol=1e-8)


@pytest.mark.parametrize("T", [30, 150])
def test_a_trajectory_of_noise_needs_folds_to_be_seen_as_noise(T: int) -> None:
    states = np.random.default_rng(1).standard_normal((T, 3 * T))
    x, y = states[:-1], states[1:]
    values, _, left = reduced_dmd(x, y, T - 1)
    pairs = torched(x, y, values, left)
    assert dual_residuals(*pairs).median() < 2 / T**0.5  # shared snapshots make it small
    assert 1.0 < dual_residuals(*pairs, folds=disjoint_folds(torch.arange(T - 1))).median() < 1.5


def test_exact_dynamics_in_wide_states_have_a_dual_residual_at_rounding() -> None:
    states = exact_orbit(6, 200, 30)
    x, y = states[:-1], states[1:]
    values, right, left = reduced_dmd(x, y, 6)
    for folds in (None, disjoint_folds(torch.arange(29))):
        assert dual_residuals(*torched(x, y, values, left), folds=folds).max() < 3e-8
    assert primal_residuals(*torched(x, y, values, right)).max() < 1e-12


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 3e-14), (np.float32, 2e-6)])
def test_whitened_residuals_of_exact_dynamics_are_rounding(dtype: type, bound: float) -> None:
    states = exact_orbit(6, 8, 300, dtype)
    x, y = states[:-1].astype(float), states[1:].astype(float)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    q, future = u[:, :6], (y @ vh[:6].T) / s[:6]
    values, vectors = np.linalg.eig(q.T @ future)
    assert primal_residuals(*torched(q, future, values, vectors)).max() < bound


def test_gram_residuals_agree_above_their_floor_and_stop_at_it() -> None:
    rng = np.random.default_rng(2)
    states = rng.standard_normal((80, 5)).cumsum(0)
    exact = exact_orbit(4, 4, 80)
    for lifted, is_exact in ((states, False), (exact, True)):
        x, y = lifted[:-1], lifted[1:]
        values, right, _ = reduced_dmd(x, y, x.shape[1])
        statistics = gram_statistics(torch.from_numpy(lifted)[None], torch.ones((1, 79), dtype=torch.bool))
        residuals = gram_residuals(statistics, *torched(values[None], right[None]))[0]
        if is_exact:
            assert residuals.min() >= GRAM_RESIDUAL_FLOOR
            assert residuals.max() < 10 * GRAM_RESIDUAL_FLOOR
        else:
            np.testing.assert_allclose(residuals, primal_residuals(*torched(x, y, values, right)), rtol=1e-6)


def test_two_samples_a_point_separate_the_mean_from_the_variance() -> None:
    # y = 0.6 x + 0.8 noise, seen through x with the wrong eigenvalue 0.3: residual 0.3, deviation 0.8.
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400_000, 1))
    y, second = (0.6 * x + 0.8 * rng.standard_normal(x.shape) for _ in range(2))
    values, vectors = np.array([0.3 + 0j]), np.ones((1, 1), dtype=complex)
    mean, deviation = mean_residuals(*torched(x, y, second, values, vectors))
    assert mean.item() == pytest.approx(0.3, abs=0.01)
    assert deviation.item() == pytest.approx(0.8, abs=0.01)
    one_sample = primal_residuals(*torched(x, y, values, vectors)).item()
    assert one_sample**2 == pytest.approx(mean.item() ** 2 + deviation.item() ** 2, abs=0.01)


def test_batches_and_padding_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 3, 20, 4))
    x[1, 12:], y[1, 12:] = 0.0, 0.0
    values = rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))
    vectors = rng.standard_normal((3, 4, 4)) + 1j * rng.standard_normal((3, 4, 4))
    batched = primal_residuals(*torched(x, y, values, vectors))
    for i, stop in enumerate((20, 12, 20)):
        alone = primal_residuals(*torched(x[i, :stop], y[i, :stop], values[i], vectors[i]))
        torch.testing.assert_close(batched[i], alone)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 10_000))
def test_the_kind_named_is_never_zero_on_noise(num_pairs: int, num_observables: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, num_pairs, num_observables))
    rank = min(num_pairs, num_observables)
    values, right, left = reduced_dmd(x, y, rank)
    kind = residual_kind(num_pairs, num_observables, rank)
    residuals = {
        "primal": primal_residuals(*torched(x, y, values, right)),
        "dual": dual_residuals(*torched(x, y, values, left)),
    }
    scale = 1e-6 * np.linalg.norm(y) * np.linalg.cond(x)
    if kind == "vacuous":
        assert max(float(r.max()) for r in residuals.values()) < scale
    else:
        assert residuals[kind].min() > 1e-6
        other = residuals["dual" if kind == "primal" else "primal"]
        assert num_pairs != num_observables
        assert other.max() < scale


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"\(\.\.\., N, F\)"):
        primal_residuals(torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2))


def test_folds_share_no_snapshot_and_are_not_periodic() -> None:
    folds = disjoint_folds(torch.arange(400))
    for label in (0, 1):
        gaps = (folds == label).nonzero().squeeze(-1).diff()
        assert set(gaps.tolist()) == {2, 3}
        assert not any(torch.equal(gaps[:100], gaps[shift : shift + 100]) for shift in range(1, 50))
    assert torch.equal(disjoint_folds(torch.tensor([3, 0, 1])), torch.tensor([1, 0, 1]))


def test_pairs_of_a_negative_fold_are_left_out_and_folds_are_averaged() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 9, 30))
    values, _, left = reduced_dmd(x, y, 9)
    folds = torch.tensor([0, 1, -1] * 3)
    each = [dual_residuals(*torched(x[i::3], y[i::3], values, left)) for i in (0, 1)]
    expected = ((each[0] ** 2 + each[1] ** 2) / 2) ** 0.5
    torch.testing.assert_close(dual_residuals(*torched(x, y, values, left), folds=folds), expected)


def test_directions_at_the_rounding_of_single_precision_are_none_of_a_dual_residual() -> None:
    """A snapshot that is twice another but for its rounding; inverted, that direction would be all there is."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
    x[4], y[4] = 2.0 * x[3], 2.0 * y[3]
    rounded = x.float()
    rounded[4] *= 1 + 2e-7
    values, left = torch.tensor([0.5 + 0.1j, -0.3j]), torch.randn(12, 2, generator=generator, dtype=torch.complex128)
    expected = dual_residuals(x, y, values, left)
    torch.testing.assert_close(dual_residuals(rounded, y.float(), values, left), expected, rtol=1e-4, atol=0)
