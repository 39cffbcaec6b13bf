"""Operators from Gram statistics, against numpy and against what each is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from relax_rl.koopman.operators.fits import (
    denoised_statistics,
    forward_backward_operator,
    least_squares_operator,
    measure_preserving_operator,
    ridge_operator,
    total_least_squares_operator,
)
from relax_rl.koopman.pairs.snapshots import GramStatistics, gram_statistics


def statistics_of(x: np.ndarray, y: np.ndarray) -> GramStatistics:
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    return GramStatistics(first.mH @ first, first.mH @ second, second.mH @ second, torch.tensor(x.shape[-2]))


def random_pairs(seed: int, N: int = 40, F: int = 5, is_complex: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, N, F))
    y = 0.5 * x + 0.5 * y
    return (x + 1j * rng.standard_normal((N, F)), y + 1j * rng.standard_normal((N, F))) if is_complex else (x, y)


@pytest.mark.parametrize("is_complex", [False, True])
def test_least_squares_and_ridge_of_complex_snapshots_too(is_complex: bool) -> None:
    x, y = random_pairs(0, is_complex=is_complex)
    statistics = statistics_of(x, y)
    np.testing.assert_allclose(least_squares_operator(statistics).matrix, np.linalg.pinv(x) @ y, atol=1e-12)
    expected = np.linalg.solve(x.conj().T @ x + 0.5 * np.eye(5), x.conj().T @ y)
    np.testing.assert_allclose(ridge_operator(statistics, 0.5).matrix, expected, atol=1e-12)


def test_sums_of_complex_pairs_and_their_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    lifted = torch.randn((2, 9, 3), generator=generator, dtype=torch.complex128, requires_grad=True)
    pairs = torch.rand((2, 8), generator=generator) < 0.7
    weights = torch.randn((3, 2, 3, 3), generator=generator, dtype=torch.complex128)
    sums = gram_statistics(lifted, pairs)
    x, y = lifted[:, :-1] * pairs[..., None], lifted[:, 1:] * pairs[..., None]
    explicit = torch.stack([x.mH @ x, x.mH @ y, y.mH @ y])
    torch.testing.assert_close(torch.stack([sums.gram, sums.cross, sums.future]), explicit, rtol=1e-13, atol=1e-13)
    (gradient,) = torch.autograd.grad((torch.stack([sums.gram, sums.cross, sums.future]) * weights).sum().real, lifted)
    torch.testing.assert_close(gradient, torch.autograd.grad((explicit * weights).sum().real, lifted)[0])


def test_forward_backward_is_the_square_root_of_forward_and_inverse_backward() -> None:
    x, y = random_pairs(2)
    forward, backward = np.linalg.pinv(x) @ y, np.linalg.pinv(y) @ x
    expected = sqrtm(forward @ np.linalg.inv(backward))
    assert np.abs(expected.imag).max() < 1e-9  # this example has a real root, and the principal one is the nearest
    np.testing.assert_allclose(forward_backward_operator(statistics_of(x, y)).matrix, expected.real, atol=1e-9)


def test_forward_backward_keeps_negative_eigenvalues_negative() -> None:
    rng = np.random.default_rng(3)
    matrix = np.diag([-0.9, 0.8, -0.5])
    x = rng.standard_normal((50, 3))
    values = np.linalg.eigvals(forward_backward_operator(statistics_of(x, x @ matrix)).matrix.numpy())
    np.testing.assert_allclose(np.sort(values.real), [-0.9, -0.5, 0.8], atol=1e-12)


def test_total_least_squares_against_the_singular_vectors_of_both_sides() -> None:
    x, y = random_pairs(4)
    _, _, right = np.linalg.svd(np.hstack([x, y]))
    leading = right[:5]
    expected = np.linalg.solve(leading[:, :5], leading[:, 5:])
    np.testing.assert_allclose(total_least_squares_operator(statistics_of(x, y)).matrix, expected, atol=1e-10)


def test_denoised_statistics_are_those_of_projected_pairs() -> None:
    x, y = random_pairs(5)
    left = np.linalg.svd(np.hstack([x, y]), full_matrices=False)[0][:, :3]
    projected = statistics_of(left @ (left.T @ x), left @ (left.T @ y))
    denoised = denoised_statistics(statistics_of(x, y), 3)
    for name in ("gram", "cross", "future"):
        torch.testing.assert_close(getattr(denoised, name), getattr(projected, name), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("operator", "bias"),
    [
        (least_squares_operator, (0.05, 1.0)),
        (forward_backward_operator, (0.0, 0.006)),
        (total_least_squares_operator, (0.0, 0.006)),
    ],
)
def test_noise_of_measurement_biases_least_squares_alone(operator, bias: tuple[float, float]) -> None:
    rng = np.random.default_rng(6)
    c, s = 0.99 * np.cos(0.4), 0.99 * np.sin(0.4)
    matrix = np.array([[c, s], [-s, c]])
    x = rng.standard_normal((40_000, 2))
    y = x @ matrix
    noisy = statistics_of(x + 0.3 * rng.standard_normal(x.shape), y + 0.3 * rng.standard_normal(y.shape))
    moduli = np.abs(np.linalg.eigvals(operator(noisy).matrix.numpy()))
    low, high = bias
    assert low <= np.abs(moduli - 0.99).max() <= high


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), is_complex=st.booleans())
def test_measure_preserving_has_its_spectrum_on_the_unit_circle_for_any_data(seed: int, is_complex: bool) -> None:
    x, y = random_pairs(seed, is_complex=is_complex)
    matrix = measure_preserving_operator(statistics_of(x, y)).matrix.numpy()
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(matrix)), 1.0, atol=1e-10)
    coefficients = np.random.default_rng(seed).standard_normal(5)
    np.testing.assert_allclose(np.linalg.norm(x @ matrix @ coefficients), np.linalg.norm(x @ coefficients), rtol=1e-10)


def test_measure_preserving_is_the_formula_and_the_best_of_its_kind() -> None:
    x, y = random_pairs(7)
    gram, cross = x.T @ x, x.T @ y
    root = np.real(sqrtm(gram))
    inverse = np.linalg.inv(root)
    u, _, vh = np.linalg.svd(inverse @ cross.T @ inverse)
    matrix = measure_preserving_operator(statistics_of(x, y)).matrix.numpy()
    np.testing.assert_allclose(matrix, inverse @ vh.T @ u.T @ root, atol=1e-10)
    error = np.linalg.norm((y - x @ matrix) @ inverse)
    rng = np.random.default_rng(8)
    for _ in range(20):
        unitary, _ = np.linalg.qr(root @ matrix @ inverse + 0.1 * rng.standard_normal((5, 5)))
        assert np.linalg.norm((y - x @ inverse @ unitary @ root) @ inverse) > error


def test_measure_preserving_leaves_out_what_there_is_not() -> None:
    x, y = random_pairs(9)
    x[:, 4], y[:, 4] = x[:, 3], y[:, 3]
    for singular in (False, True):  # a second null direction, of A alone, must not mix with the one left out
        y[:, 0] *= not singular
        fit = measure_preserving_operator(statistics_of(x, y))
        assert fit.rank == 4
        moduli = np.sort(np.abs(np.linalg.eigvals(fit.matrix.numpy())))
        np.testing.assert_allclose(moduli, [0, 1, 1, 1, 1], atol=1e-7)


@pytest.mark.parametrize("part", ["gram", "cross", "future"])
@pytest.mark.parametrize("fit", [measure_preserving_operator, forward_backward_operator, total_least_squares_operator])
def test_operators_that_are_for_spectra_alone_carry_no_gradient(fit, part: str) -> None:
    states = torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    statistics = gram_statistics(states, torch.ones(1, 29, dtype=torch.bool))
    taught = replace(statistics, **{part: getattr(statistics, part).requires_grad_()})
    assert not fit(taught).matrix.requires_grad


def test_least_squares_of_a_batch_where_some_directions_are_missing_or_hardly_there() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 5, 40, 6))
    x[1, :, 5] = 0.0
    x[2] = 0.0
    x[3, :, 5] = x[3, :, 0] + 1e-6 * x[3, :, 5]
    x[4, :, 1:] = x[4, :, :1]
    fit = least_squares_operator(statistics_of(x, y))
    assert fit.rank.tolist() == [6, 5, 0, 6, 1]
    for row, rank in enumerate(fit.rank.tolist()):
        expected = np.linalg.pinv(x[row], rcond=1e-7) @ y[row]
        np.testing.assert_allclose(fit.matrix[row], expected, rtol=0.0, atol=1e-3 * np.abs(expected).max())
        singular = np.linalg.svd(x[row], compute_uv=False)
        wanted = singular[0] / singular[rank - 1] if rank else np.inf
        np.testing.assert_allclose(fit.condition[row], wanted, rtol=1e-3)
