"""Optimised DMD: exponents of continuous time, from noise, from uneven times, from several trajectories."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.spectra.dmd import dmd
from relax_rl.koopman.spectra.optimised_dmd import _normal_equations, _project, optimised_dmd

EXPONENTS = np.array([-0.1 + 2j, -0.1 - 2j, 0.02 + 5j, 0.02 - 5j])
FIRST, SECOND = np.random.default_rng(0).standard_normal((2, 20)) + 1j * np.random.default_rng(1).standard_normal(
    (2, 20)
)
MODES = np.stack([FIRST, FIRST.conj(), SECOND, SECOND.conj()])


def signal(times: np.ndarray, amplitudes=(1, 1, 1, 1)) -> np.ndarray:
    return ((np.exp(np.outer(times, EXPONENTS)) * amplitudes) @ MODES).real


def distance(exponents) -> float:
    gaps = np.abs(np.asarray(exponents)[:, None] - EXPONENTS)
    return float(max(gaps.min(0).max(), gaps.min(1).max()))


def test_exact_exponents_modes_and_amplitudes() -> None:
    times = 0.1 * np.arange(60)
    fit = optimised_dmd([torch.from_numpy(signal(times))], 4, dt=0.1)
    assert fit.is_converged
    assert distance(fit.exponents) < 1e-11
    assert fit.relative_error < 1e-13
    np.testing.assert_allclose(fit.at(torch.from_numpy(times)).numpy(), signal(times), atol=1e-11)
    np.testing.assert_allclose(fit.eigenvalues(0.1), np.exp(0.1 * fit.exponents.numpy()))
    np.testing.assert_allclose(np.linalg.norm(fit.modes, axis=1), 1)


def test_noise_biases_exact_dmd_and_hardly_optimised_dmd() -> None:
    rng = np.random.default_rng(1)
    times = 0.1 * np.arange(100)
    ours, exact = [], []
    for _ in range(8):
        noisy = torch.from_numpy(signal(times) + 0.5 * rng.standard_normal((100, 20)))
        ours.append(distance(optimised_dmd([noisy], 4, dt=0.1).exponents))
        exact.append(distance(dmd(noisy, rank=4, modes="exact").continuous_eigenvalues(0.1)))
    assert np.mean(ours) < 0.1 * np.mean(exact)
    assert max(ours) < 0.02


def test_is_the_least_squares_optimum() -> None:
    """Against scipy's solver on the same variable projection, with derivatives by differences."""
    rng = np.random.default_rng(2)
    times = 0.1 * np.arange(40)
    noisy = signal(times) + 0.3 * rng.standard_normal((40, 20))
    fit = optimised_dmd([torch.from_numpy(noisy)], 4, dt=0.1)
    basis = np.linalg.svd(noisy, full_matrices=False)[2][:4].T
    reduced = noisy @ basis

    def residual(parameters: np.ndarray) -> np.ndarray:
        columns = np.exp(np.outer(times, parameters[:4] + 1j * parameters[4:]))
        rest = reduced - columns @ np.linalg.lstsq(columns, reduced, rcond=None)[0]
        return np.r_[rest.real.ravel(), rest.imag.ravel()]

    start = np.r_[EXPONENTS.real, EXPONENTS.imag]
    best = least_squares(residual, start, xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    gaps = np.abs(fit.exponents.numpy()[:, None] - (best[:4] + 1j * best[4:]))
    assert gaps.min(0).max() < 1e-6
    assert fit.relative_error == pytest.approx(np.linalg.norm(residual(best)) / np.linalg.norm(reduced), rel=1e-9)


def test_normal_equations_against_differences() -> None:
    rng = np.random.default_rng(5)
    clock = torch.from_numpy(np.sort(rng.random(30)) * 4)
    data = torch.from_numpy(rng.standard_normal((30, 3)) + 1j * rng.standard_normal((30, 3)))
    start = torch.tensor([-0.3 + 1.0j, -0.1 - 2.0j, -0.6 + 0.2j], dtype=torch.complex128)

    def residual(shift: np.ndarray) -> np.ndarray:
        moved = start + torch.complex(*torch.from_numpy(shift).chunk(2))
        rest = _project(moved, clock, data).residual.numpy().ravel()
        return np.r_[rest.real, rest.imag]

    steps = 1e-6 * np.eye(6)
    jacobian = np.stack([(residual(step) - residual(-step)) / 2e-6 for step in steps], 1)
    hessian, gradient = _normal_equations([_project(start, clock, data)])
    np.testing.assert_allclose(hessian, jacobian.T @ jacobian, atol=1e-6)
    np.testing.assert_allclose(gradient, jacobian.T @ residual(np.zeros(6)), atol=1e-7)


def test_no_step_raises_the_error() -> None:
    rng = np.random.default_rng(6)
    times = 0.1 * np.arange(50)
    data = signal(times) + rng.standard_normal((50, 20))
    basis = np.linalg.svd(data, full_matrices=False)[2][:2].T
    for _ in range(30):
        start = rng.uniform(-2, 0, 2) + 1j * rng.uniform(-6, 6, 2)
        fit = optimised_dmd(
            [torch.from_numpy(data)], 2, dt=0.1, initial=torch.from_numpy(start), max_iterations=1, tolerance=0.0
        )
        columns = np.exp(np.outer(times, start))
        rest = data @ basis - columns @ np.linalg.lstsq(columns, data @ basis, rcond=None)[0]
        assert fit.relative_error <= np.linalg.norm(rest) / np.linalg.norm(data @ basis) + 1e-12


def test_several_trajectories_at_uneven_times() -> None:
    rng = np.random.default_rng(3)
    clocks = [np.sort(rng.random(80)) * 10, np.sort(rng.random(60)) * 8 + 3]
    amplitudes = [(1, 1, 2, 2), (0.5j, -0.5j, 1, 1)]
    parts = [torch.from_numpy(signal(clock, a)) for clock, a in zip(clocks, amplitudes, strict=True)]
    fit = optimised_dmd(parts, 4, times=[torch.from_numpy(clock) for clock in clocks])
    assert distance(fit.exponents) < 1e-10
    ratio = fit.amplitudes[1] / fit.amplitudes[0]
    expected = [{2: 0.5j, -2: -0.5j, 5: 0.5, -5: 0.5}[round(float(a.imag))] for a in fit.exponents]
    np.testing.assert_allclose(ratio, expected, atol=1e-9)
    np.testing.assert_allclose(
        fit.at(torch.from_numpy(clocks[1]), 1).numpy(), signal(clocks[1], amplitudes[1]), atol=1e-9
    )


def test_a_bad_start_and_growth_neither_overflow_nor_raise_the_error() -> None:
    times = np.arange(400.0)
    growing = np.exp(0.9 * times - 360)[:, None] * np.ones((1, 3)) + np.cos(0.3 * times)[:, None] * [1, 2, 3]
    start = torch.tensor([2.0 + 0j, 0.1 + 0.25j, 0.1 - 0.25j])
    fit = optimised_dmd([torch.from_numpy(growing)], 2, initial=start[:2])
    assert np.isfinite(fit.relative_error)
    with pytest.raises(DataError, match="fewer than 3"):
        optimised_dmd([torch.from_numpy(growing)], 3, initial=start)
    one = optimised_dmd(
        [torch.from_numpy(signal(0.1 * np.arange(60)))], 4, dt=0.1, initial=torch.zeros(4), max_iterations=1
    )
    assert one.relative_error <= 1.0
    assert not one.is_converged


def test_complex_snapshots_and_zero_eigenvalues() -> None:
    times = np.arange(12.0)
    states = np.exp(np.outer(times, [0.3j, -0.2 + 1j])) @ np.random.default_rng(4).standard_normal((2, 5))
    fit = optimised_dmd([torch.from_numpy(states)], 2)
    np.testing.assert_allclose(fit.exponents, [0.3j, -0.2 + 1j], atol=1e-11)
    last = states.copy()
    last[-1] += [1, 2, 3, 4, 5]  # a direction that no first snapshot has: DMD has two eigenvalues, not three
    fit = optimised_dmd([torch.from_numpy(last)], 3)
    assert np.isfinite(fit.exponents).all()
    assert fit.relative_error < 0.5
    states[0] += [1, 2, 3, 4, 5]  # a third direction that is gone after one step
    fit = optimised_dmd([torch.from_numpy(states)], 3)
    np.testing.assert_allclose(fit.exponents[:2], [0.3j, -0.2 + 1j], atol=1e-6)
    assert fit.exponents[2].real < -5


def test_mistakes_are_named() -> None:
    states = torch.from_numpy(signal(0.1 * np.arange(10)))
    with pytest.raises(ConfigError, match="rank"):
        optimised_dmd([states], 0)
    with pytest.raises(ConfigError, match="whole number"):
        optimised_dmd([states], 0.9)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dt"):
        optimised_dmd([states], 2, dt=-1.0)
    with pytest.raises(ConfigError, match="initial"):
        optimised_dmd([states], 2, initial=torch.zeros(3))
    with pytest.raises(DataError, match="same length"):
        optimised_dmd([states], 2, times=[torch.arange(9.0)])
    with pytest.raises(DataError, match="increase"):
        optimised_dmd([states], 2, times=[torch.zeros(10)])
    with pytest.raises(DataError, match="NaN"):
        optimised_dmd([states * torch.nan], 2)


def test_times_that_carry_a_gradient_give_a_fit_without_one() -> None:
    times = torch.arange(9, dtype=torch.float64, requires_grad=True)
    states = (0.9 ** times.detach()).unsqueeze(-1)
    found = optimised_dmd([states], 1, times=[times])
    assert not found.exponents.requires_grad
    assert found.eigenvalues(1.0).real.item() == pytest.approx(0.9)


def noisy_oscillations(growth: float, seed: int = 3) -> torch.Tensor:
    times = 0.1 * np.arange(60)
    exponents = np.array([growth + 2j, growth - 2j, growth + 5j, growth - 5j])
    clean = (np.exp(np.outer(times, exponents)) @ MODES).real
    return torch.from_numpy(clean + 0.3 * np.random.default_rng(seed).standard_normal(clean.shape))


@pytest.mark.parametrize(
    ("constraints", "growth"), [(("stable",), 0.05), (("imaginary",), 0.0), (("imaginary", "conjugate_pairs"), 0.0)]
)
def test_exponents_keep_to_their_constraints(constraints, growth) -> None:
    noisy = noisy_oscillations(growth)
    free, fit = optimised_dmd(noisy, 4, dt=0.1), optimised_dmd(noisy, 4, dt=0.1, constraints=constraints)
    assert fit.is_converged
    assert fit.exponents.real.max() == 0.0
    np.testing.assert_allclose(np.sort(fit.exponents.imag), [-5, -2, 2, 5], atol=0.05)
    assert fit.relative_error >= free.relative_error - 1e-12


def test_conjugate_pairs_are_exact_and_lose_nothing_on_real_data() -> None:
    noisy = noisy_oscillations(-0.1)
    fit = optimised_dmd(noisy, 4, dt=0.1, constraints=["conjugate_pairs"])
    gaps = (fit.exponents[:, None] - fit.exponents.conj()).abs().amin(-1)
    assert gaps.max() == 0.0
    assert fit.relative_error == pytest.approx(optimised_dmd(noisy, 4, dt=0.1).relative_error, rel=1e-9)


def test_a_bound_on_growth_and_decay_is_the_constrained_optimum() -> None:
    """Against scipy's solver with the same box."""
    noisy = noisy_oscillations(-0.4)[:, :6]
    fit = optimised_dmd(noisy, 4, dt=0.1, bound=0.1)
    assert fit.exponents.real.abs().max() <= 0.1
    basis = np.linalg.svd(noisy.numpy(), full_matrices=False)[2][:4].T
    reduced, times = noisy.numpy() @ basis, 0.1 * np.arange(60)

    def residual(parameters: np.ndarray) -> np.ndarray:
        columns = np.exp(np.outer(times, parameters[:4] + 1j * parameters[4:]))
        rest = reduced - columns @ np.linalg.lstsq(columns, reduced, rcond=None)[0]
        return np.concatenate([rest.real.ravel(), rest.imag.ravel()])

    start = np.concatenate([np.full(4, -0.05), [2, -2, 5, -5]])
    edges = ([-0.1] * 4 + [-np.inf] * 4, [0.1] * 4 + [np.inf] * 4)
    best = np.sqrt(2 * least_squares(residual, start, bounds=edges, xtol=1e-12, ftol=1e-12).cost)
    assert fit.relative_error * np.linalg.norm(reduced) == pytest.approx(best, rel=1e-5)


def test_equal_starts_are_moved_apart() -> None:
    """DMD of a slow wave in noise has real eigenvalues; without growth both would start at 0 and stay."""
    times = np.arange(60)
    slow = np.outer(np.cos(0.05 * times), [1.0, 0.4, 0.2]) + np.outer(np.sin(0.05 * times), [0.0, 0.1, -0.1])
    noisy = torch.from_numpy(slow + 0.1 * np.random.default_rng(0).standard_normal(slow.shape))
    fit = optimised_dmd(noisy, 2, constraints=["imaginary"])
    np.testing.assert_allclose(np.sort(fit.exponents.imag), [-0.05, 0.05], atol=0.01)


def test_an_exponential_that_fits_the_last_snapshot_alone_is_no_convergence() -> None:
    quiet = np.random.default_rng(0).standard_normal((20, 3)) * 1e-3
    quiet[-1] += [5.0, -3.0, 1.0]
    start = torch.tensor([20.0, -0.1], dtype=torch.complex128)
    fit = optimised_dmd(torch.from_numpy(quiet), 2, initial=start)
    assert fit.exponents.real.max() > np.log(1e3)
    assert not fit.is_converged


@pytest.mark.parametrize(
    ("settings", "message"), [({"constraints": ["steady"]}, "Unknown constraint 'steady'"), ({"bound": 0.0}, "bound")]
)
def test_constraints_that_there_are_not_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        optimised_dmd(noisy_oscillations(0.0), 4, **settings)
