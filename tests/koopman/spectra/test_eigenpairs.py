"""Known spectra, residuals from their definition, and the gradient of the moduli where it is hard."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import gram_from_trajectories, koopman_eigenvalues
from relax_rl.koopman.operators.fits import least_squares_operator, ridge_operator, whitened_operator
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.eigenpairs import (
    MAX_EIGENVALUE_CONDITION,
    eigenpairs,
    eigenvalue_moduli,
    eigenvalues,
    spectrum_from_statistics,
)
from relax_rl.koopman.spectra.residuals import squared_residuals


def orbit(matrix: np.ndarray, start: np.ndarray, T: int) -> torch.Tensor:
    states = [start]
    for _ in range(T - 1):
        states.append(states[-1] @ matrix)
    return torch.from_numpy(np.stack(states))


def sorted_values(values) -> np.ndarray:
    return np.sort_complex(np.round(np.asarray(values, dtype=complex), 9))


def test_eigenvalues_of_a_linear_system_are_recovered() -> None:
    rng = np.random.default_rng(0)
    chosen = np.array([0.95, 0.8, 0.5, -0.7])
    mixing = rng.standard_normal((4, 4))
    matrix = np.linalg.inv(mixing) @ np.diag(chosen) @ mixing
    spectrum = koopman_eigenvalues(orbit(matrix, rng.standard_normal(4), 30))
    np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), sorted_values(chosen), atol=1e-7)
    assert spectrum.residuals.max() < 1e-7
    assert not spectrum.is_vacuous
    assert spectrum.num_pairs == 29


def test_rotations_have_modulus_one_and_their_angle() -> None:
    angles = [0.3, 1.1]
    blocks = np.zeros((4, 4))
    for i, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, s], [-s, c]]
    spectrum = koopman_eigenvalues(orbit(blocks, np.ones(4), 40))
    np.testing.assert_allclose(spectrum.eigenvalues.abs(), 1.0, atol=1e-9)
    np.testing.assert_allclose(np.sort(spectrum.eigenvalues.angle().abs()), [0.3, 0.3, 1.1, 1.1], atol=1e-9)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(lambda t, x: [x[1], -0.5 * x[1] + x[0] - x[0] ** 3], id="duffing"),
        pytest.param(lambda t, x: [x[1], (1 - x[0] ** 2) * x[1] - x[0]], id="van-der-pol"),
    ],
)
def test_lifted_oscillators_agree_with_numpy(field) -> None:
    times = np.linspace(0, 25, 251)
    states = solve_ivp(field, (0, 25), [1.2, 0.4], t_eval=times, rtol=1e-9, atol=1e-9).y.T
    x, v = states.T
    lifted = np.stack([np.ones_like(x), x, v, x * v, x**2, v**2], 1)
    K = np.linalg.lstsq(lifted[:-1], lifted[1:], rcond=None)[0]
    values, vectors = np.linalg.eig(K)
    residuals = np.linalg.norm((lifted[1:] - values[:, None, None] * lifted[:-1]) @ vectors.T[:, :, None], axis=1)[:, 0]
    residuals /= np.linalg.norm(lifted[:-1] @ vectors, axis=0)
    order = np.argsort(-np.abs(values), kind="stable")
    spectrum = koopman_eigenvalues(torch.from_numpy(lifted))
    np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), sorted_values(values), atol=1e-8)
    np.testing.assert_allclose(np.sort(spectrum.residuals), np.sort(residuals[order]), atol=1e-8)

    statistics = gram_statistics(torch.from_numpy(lifted)[None], torch.ones((1, 250), dtype=torch.bool))
    gram_values, gram_vectors = eigenpairs(least_squares_operator(statistics).matrix)
    np.testing.assert_allclose(sorted_values(gram_values[0]), sorted_values(values), atol=1e-7)
    squared = squared_residuals(statistics, gram_values, gram_vectors)[0]
    np.testing.assert_allclose(np.sort(squared.clamp_min(0).sqrt()), np.sort(residuals), atol=1e-5)


def test_residual_of_a_complex_pair_needs_lambda_on_the_right_side() -> None:
    # A rotation observed exactly: residual 0. With lambda on A instead of A* it would be |lambda - conj(lambda)| = 1.7.
    spectrum = koopman_eigenvalues(orbit(np.array([[0.5, 0.8], [-0.8, 0.5]]), np.ones(2), 20))
    statistics = gram_statistics(
        orbit(np.array([[0.5, 0.8], [-0.8, 0.5]]), np.ones(2), 20)[None], torch.ones(1, 19) > 0
    )
    squared = squared_residuals(statistics, spectrum.eigenvalues[None], spectrum.eigenvectors[None])
    assert squared.abs().max() < 1e-9


def test_rank_and_refusals() -> None:
    rng = np.random.default_rng(3)
    snapshots = torch.from_numpy(rng.standard_normal((8, 20)))
    assert koopman_eigenvalues(torch.from_numpy(rng.standard_normal((50, 20))), rank=3).eigenvalues.shape == (3,)
    assert koopman_eigenvalues(snapshots, ridge=0.1).eigenvalues.abs().max() < 10
    with pytest.raises(ConfigError, match="rank"):
        koopman_eigenvalues(snapshots, rank=21)
    with pytest.raises(ConfigError, match="ridge"):
        koopman_eigenvalues(snapshots, ridge=-1.0)
    with pytest.raises(ConfigError, match="residual"):
        koopman_eigenvalues(snapshots, residual="both")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="NaN"):
        koopman_eigenvalues(snapshots * float("nan"))
    with pytest.raises(DataError, match="all zero"):
        koopman_eigenvalues(torch.zeros(5, 3))
    with pytest.raises(DataError, match="T >= 2"):
        koopman_eigenvalues(snapshots[:1])
    with pytest.raises(DataError, match=r"\(T, F\)"):
        koopman_eigenvalues([snapshots[0]])
    with pytest.raises(DataError, match="index or sum"):
        spectrum_from_statistics(gram_statistics(snapshots[None], torch.ones(1, 7) > 0))


def test_a_ridge_is_relative_to_the_mean_diagonal_of_the_gram_matrix() -> None:
    rng = np.random.default_rng(3)
    states = rng.standard_normal((40, 4)).cumsum(0)
    x, y = states[:-1], states[1:]
    K = np.linalg.solve(x.T @ x + 0.1 * np.trace(x.T @ x) / 4 * np.eye(4), x.T @ y)
    spectrum = koopman_eigenvalues(torch.from_numpy(states), ridge=0.1)
    np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), sorted_values(np.linalg.eigvals(K)), atol=1e-8)


def test_which_residual_holds_is_named() -> None:
    rng = np.random.default_rng(1)
    wide, square, tall = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((30, 200), (30, 29), (30, 6)))
    noise = koopman_eigenvalues(wide)
    assert noise.residual_kind == "dual"
    assert 1.0 < noise.residuals.median() < 1.5
    assert noise.spurious_share() == 1.0
    interpolated = koopman_eigenvalues(wide, residual="primal")
    assert interpolated.is_vacuous
    assert interpolated.residuals.max() < 1e-12
    assert np.isnan(interpolated.spurious_share())
    with pytest.raises(DataError, match="vacuous"):
        interpolated.pruned(0.1)
    assert koopman_eigenvalues(square).is_vacuous
    assert koopman_eigenvalues(tall).residual_kind == "primal"
    assert koopman_eigenvalues(tall, residual="dual").is_vacuous
    assert koopman_eigenvalues(wide, rank=5).residual_kind == "primal"
    assert koopman_eigenvalues(wide, rank=5, residual="dual").residual_kind == "dual"


def test_pruning_finds_the_six_true_modes_among_noise() -> None:
    # Six modes in 100 snapshots of 200 observables, noise of a twentieth of their size; all 99 directions are kept.
    rng = np.random.default_rng(5)
    true = np.exp(1j * np.linspace(0.3, 2.5, 3)) * np.array([1.0, 0.99, 1.0])
    modes = true ** np.arange(100)[:, None]
    states = np.concatenate([modes.real, modes.imag], 1) @ rng.standard_normal((6, 200))
    states = states / states.std() + 0.05 * rng.standard_normal(states.shape)
    spectrum = koopman_eigenvalues(torch.from_numpy(states))
    assert len(spectrum.eigenvalues) == 99
    pruned = spectrum.pruned()
    expected = np.concatenate([true, true.conj()])
    for chosen in (pruned, spectrum.most_reliable(6)):
        assert len(chosen.eigenvalues) == 6
        assert np.abs(chosen.eigenvalues.numpy()[:, None] - expected).min(0).max() < 0.01
        assert (chosen.eigenvalues.abs().diff() <= 0).all()
    assert spectrum.spurious_share() == pytest.approx(93 / 99)
    assert pruned.eigenvectors.shape == (200, 6)


def test_exact_dynamics_in_wide_states_are_at_rounding_by_either_residual() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn((6, 6), generator=generator, dtype=torch.float64)).Q
    states = orbit(rotation.numpy(), np.ones(6), 30) @ torch.randn((6, 200), generator=generator, dtype=torch.float64)
    for dtype, bound in ((torch.float64, 3e-14), (torch.float32, 2e-6)):
        for residual in ("auto", "dual"):
            spectrum = koopman_eigenvalues(states.to(dtype), rank=6, residual=residual)
            assert spectrum.residuals.max() < bound
            np.testing.assert_allclose(spectrum.eigenvalues.abs(), 1.0, atol=bound)


def test_several_trajectories_are_pooled_and_no_pair_joins_two() -> None:
    rng = np.random.default_rng(7)
    matrix = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.0], [0.0, 0.1, 0.5]])
    trajectories = [orbit(matrix, rng.standard_normal(3), T) for T in (2, 9, 1, 5)]
    spectrum = koopman_eigenvalues(trajectories)
    np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), sorted_values(np.linalg.eigvals(matrix)), atol=1e-8)
    assert spectrum.num_pairs == 1 + 8 + 4
    assert spectrum.residuals.max() < 1e-12


def test_statistics_give_the_spectrum_of_the_snapshots() -> None:
    rng = np.random.default_rng(8)
    snapshots = torch.from_numpy(rng.standard_normal((60, 5)).cumsum(0))
    expected = koopman_eigenvalues(snapshots, ridge=1e-3)
    statistics = gram_from_trajectories([snapshots[:20], snapshots[19:]], lambda x: x)
    spectrum = spectrum_from_statistics(statistics, ridge=1e-3)
    torch.testing.assert_close(spectrum.eigenvalues, expected.eigenvalues, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(spectrum.residuals, expected.residuals, rtol=1e-6, atol=1e-7)
    assert spectrum.residual_kind == "primal"
    assert spectrum.num_pairs == 59
    interpolating = gram_from_trajectories([snapshots[:4]], lambda x: x)
    assert spectrum_from_statistics(interpolating).is_vacuous


def test_operators_against_numpy() -> None:
    rng = np.random.default_rng(4)
    lifted = rng.standard_normal((60, 5))
    lifted[:, 4] = lifted[:, 3]  # deficient: least squares must be the one of minimal norm
    x, y = lifted[:-1], lifted[1:]
    statistics = gram_statistics(torch.from_numpy(lifted)[None], torch.ones((1, 59), dtype=torch.bool))
    fit = least_squares_operator(statistics)
    np.testing.assert_allclose(fit.matrix[0], np.linalg.pinv(x) @ y, atol=1e-9)
    assert fit.rank.item() == 4
    ridge = ridge_operator(statistics, 0.5).matrix[0]
    np.testing.assert_allclose(ridge, np.linalg.solve(x.T @ x + 0.5 * np.eye(5), x.T @ y), atol=1e-10)
    relative = ridge_operator(statistics, 0.5, relative=True).matrix[0]
    scale = 0.5 * np.trace(x.T @ x) / 5
    np.testing.assert_allclose(relative, np.linalg.solve(x.T @ x + scale * np.eye(5), x.T @ y), atol=1e-10)


def test_whitened_eigenvalues_stay_in_the_unit_disc_for_any_data() -> None:
    rng = np.random.default_rng(5)
    explosive = np.cumprod(1 + rng.random((16, 40, 6)), axis=1) * rng.standard_normal((16, 40, 6))
    pairs = torch.ones((16, 39), dtype=torch.bool)
    statistics = gram_statistics(torch.from_numpy(explosive), pairs)
    for center in (False, True):
        fit = whitened_operator(torch.from_numpy(explosive), pairs, 6, center=center)
        assert eigenvalue_moduli(fit.matrix).values.max() <= 1 + 1e-9
    assert eigenvalue_moduli(least_squares_operator(statistics).matrix).values.max() > 1.1


def test_gradcheck_on_well_separated_spectra() -> None:
    rng = np.random.default_rng(6)
    matrices = torch.from_numpy(np.diag([0.9, 0.5, -0.3, 0.1]) + 0.1 * rng.standard_normal((3, 4, 4)))
    matrices[2, :2, :2] = torch.tensor([[0.4, 0.7], [-0.7, 0.4]])
    matrices.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: eigenvalue_moduli(m).values.sort(-1).values, matrices, atol=1e-7)
    assert torch.autograd.gradcheck(lambda m: eigenvalue_moduli(m).values.var(-1), matrices, atol=1e-7)


def test_eigenvalues_have_the_gradient_of_simple_ones_in_the_complex_plane() -> None:
    rng = np.random.default_rng(7)
    matrices = torch.from_numpy(np.diag([0.9, 0.5, -0.3, 0.1]) + 0.1 * rng.standard_normal((3, 4, 4)))
    matrices[2, :2, :2] = torch.tensor([[0.4, 0.7], [-0.7, 0.4]])
    matrices.requires_grad_()
    target = torch.tensor([0.2 + 0.9j, 1.0 - 0.3j, 0.5j, -0.7], dtype=torch.complex128)

    def distances(m: torch.Tensor) -> torch.Tensor:
        return (eigenvalues(m).unsqueeze(-1) - target).abs().sum((-1, -2))

    assert torch.autograd.gradcheck(distances, matrices, atol=1e-7)
    expected = np.abs(np.linalg.eigvals(matrices.detach().numpy())[..., None] - target.numpy()).sum((-1, -2))
    assert distances(matrices.detach()).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def _jordan(value: float, size: int, perturbation: float = 0.0) -> torch.Tensor:
    matrix = value * torch.eye(size, dtype=torch.float64) + torch.diag(torch.ones(size - 1, dtype=torch.float64), 1)
    matrix[-1, 0] += perturbation
    return matrix


@pytest.mark.parametrize("value", [0.0, 0.5, -0.8])
@pytest.mark.parametrize("perturbation", [0.0, 1e-16, 1e-12, -1e-12])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_gradient_at_a_jordan_block_is_bounded_and_counted(value: float, perturbation: float, size: int) -> None:
    matrix = _jordan(value, size, perturbation).requires_grad_()
    moduli = eigenvalue_moduli(matrix)
    weights = torch.arange(1.0, size + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * moduli.values).sum(), matrix)
    assert torch.isfinite(gradient).all()
    assert gradient.norm() <= weights.sum() * MAX_EIGENVALUE_CONDITION
    if perturbation == 0.0:
        assert moduli.num_clamped > 0


def test_modulus_of_zero_has_no_gradient_and_a_batch_mate_keeps_its_own() -> None:
    sound = torch.diag(torch.tensor([0.9, -0.4, 0.2], dtype=torch.float64))
    batch = torch.stack([torch.zeros(3, 3, dtype=torch.float64), _jordan(0.0, 3), sound]).requires_grad_()
    moduli = eigenvalue_moduli(batch)
    (gradient,) = torch.autograd.grad(moduli.values.sum(), batch)
    assert gradient[0].eq(0).all()
    assert torch.isfinite(gradient[1]).all()
    torch.testing.assert_close(gradient[2], torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)))
    assert moduli.num_clamped[0] == moduli.num_clamped[2] == 0


@pytest.mark.parametrize(
    "matrix", [torch.eye(4), torch.full((4, 4), 0.25), torch.diag(torch.tensor([1.0, 1, 0.5, 0.5]))]
)
def test_repeated_eigenvalues_have_a_finite_gradient(matrix: torch.Tensor) -> None:
    leaf = matrix.double().requires_grad_()
    moduli = eigenvalue_moduli(leaf)
    (gradient,) = torch.autograd.grad(moduli.values.square().sum(), leaf)
    # The trace of K^2 for these non-negative spectra, whose gradient is 2 K^T whatever basis the eigenvectors are.
    torch.testing.assert_close(gradient, 2 * leaf.detach().T, atol=1e-9, rtol=1e-9)
    assert moduli.num_clamped == 0


def test_nan_matrix_is_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        eigenvalue_moduli(torch.full((2, 2), float("nan")))
