"""Lyapunov exponents and singular values of Jacobians against published numbers and linear algebra."""

import math

import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dmd
from relax_rl.koopman.spectra.lyapunov import (
    exponents_of_products,
    leading_eigenvalues,
    leading_singular_values,
    lyapunov_exponents,
    singular_values_of_jacobian,
)


def henon(state: torch.Tensor) -> torch.Tensor:
    x, y = state[0], state[1]
    return torch.stack([1 - 1.4 * x**2 + y, 0.3 * x])


def lorenz(state: torch.Tensor, dt: float = 0.01) -> torch.Tensor:
    """One step of RK4 of Lorenz63 with the classical parameters."""

    def slope(state: torch.Tensor) -> torch.Tensor:
        x, y, z = state[0], state[1], state[2]
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    a = slope(state)
    b = slope(state + dt / 2 * a)
    c = slope(state + dt / 2 * b)
    return state + dt / 6 * (a + 2 * b + 2 * c + slope(state + dt * c))


def test_the_henon_map() -> None:
    starts = 0.1 * torch.rand((512, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lyapunov_exponents(henon, starts, num_steps=120, warm_up=30)
    # Sprott 2003, "Chaos and Time-Series Analysis"; their sum is log 0.3 exactly.
    largest, smallest = found.values.mean(0).tolist()
    assert largest == pytest.approx(0.41922, rel=0.01)
    assert smallest == pytest.approx(-1.62319, rel=0.01)
    torch.testing.assert_close(found.values.sum(-1), torch.full((512,), math.log(0.3)).double())
    assert found.history.shape == (120, 512, 2)
    # A row of a batch is what it is alone, and a run can be continued.
    alone = lyapunov_exponents(henon, starts[7], num_steps=20)
    torch.testing.assert_close(alone.values, lyapunov_exponents(henon, starts, num_steps=20).values[7])
    expected = starts[7]
    for _ in range(20):
        expected = henon(expected)
    torch.testing.assert_close(alone.state, expected)


@pytest.mark.slow
def test_lorenz63() -> None:
    spread = torch.randn((256, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    starts = torch.tensor([1.0, 1.0, 20.0]).double() + spread
    found = lyapunov_exponents(lorenz, starts, num_steps=1500, warm_up=500)
    largest, neutral, smallest = (found.values.mean(0) / 0.01).tolist()
    assert largest == pytest.approx(0.906, rel=0.02)
    assert abs(neutral) < 0.03
    assert smallest == pytest.approx(-14.57, rel=0.01)
    assert largest + neutral + smallest == pytest.approx(-41 / 3, rel=1e-3)  # the divergence of the flow


def test_a_linear_map_has_the_logarithms_of_its_moduli_and_so_does_a_fitted_operator() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn((4, 4), generator=generator, dtype=torch.float64) + 2 * torch.eye(4)
    matrix = torch.linalg.inv(mixing) @ torch.diag(torch.tensor([1.02, 0.9, -0.6, 0.3]).double()) @ mixing
    start = torch.randn(4, generator=generator, dtype=torch.float64)
    found = lyapunov_exponents(lambda state: state @ matrix, start, num_steps=300, warm_up=200)
    expected = torch.tensor([1.02, 0.9, 0.6, 0.3]).double().log()
    torch.testing.assert_close(found.values, expected, atol=1e-9, rtol=0)
    two = lyapunov_exponents(lambda state: state @ matrix, start, num_steps=300, warm_up=200, count=2)
    torch.testing.assert_close(two.values, expected[:2], atol=1e-9, rtol=0)
    states = [start]
    for _ in range(12):
        states.append(states[-1] @ matrix)
    fitted = dmd(torch.stack(states)).eigenvalues.abs().log()
    torch.testing.assert_close(fitted, found.values, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.state, start @ torch.linalg.matrix_power(matrix, 500))


def test_a_collapsed_direction_is_minus_infinity() -> None:
    found = lyapunov_exponents(
        lambda s: torch.stack([0.5 * s[0], 0 * s[1]]), torch.ones(2).double(), num_steps=3, warm_up=1
    )
    assert found.values.tolist() == pytest.approx([math.log(0.5), -math.inf])


def test_singular_values_and_eigenvalues_of_a_jacobian() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((12, 12), generator=generator, dtype=torch.float64) / 4
    state = torch.randn(12, generator=generator, dtype=torch.float64)

    def step(state: torch.Tensor) -> torch.Tensor:
        return torch.tanh(state @ weight)

    jacobian = torch.func.jacrev(step)(state)
    singular, eigenvalues = singular_values_of_jacobian(step, state, count=12)
    torch.testing.assert_close(singular, torch.linalg.svdvals(jacobian), atol=1e-9, rtol=1e-9)
    exact = torch.linalg.eigvals(jacobian)
    assert (eigenvalues[:, None] - exact).abs().amin(-1).max() < 1e-8
    leading, _ = singular_values_of_jacobian(step, state, count=2, iterations=200)
    torch.testing.assert_close(leading, torch.linalg.svdvals(jacobian)[:2], atol=1e-6, rtol=1e-6)


def test_what_has_no_exponents_is_refused() -> None:
    with pytest.raises(DataError, match="left the finite numbers at step"):
        lyapunov_exponents(lambda state: state**2, torch.full((2,), 3.0).double(), num_steps=20)
    with pytest.raises(DataError, match=r"floating \(H,\)"):
        lyapunov_exponents(lambda state: state, torch.ones((2, 2, 2)), num_steps=1)
    with pytest.raises(ConfigError, match=r"count must lie in 1\.\.2"):
        lyapunov_exponents(lambda state: state, torch.ones(2), num_steps=1, count=3)
    with pytest.raises(ConfigError, match="iterations be positive"):
        singular_values_of_jacobian(lambda state: state, torch.ones(2), count=1, iterations=0)


def test_leading_values_of_a_matrix_known_by_its_products() -> None:
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn((20, 20), generator=generator, dtype=torch.float64)
    blocks = torch.diag(torch.linspace(0.3, 0.01, 20).double())
    blocks[:2, :2] = 0.9 * torch.tensor([[math.cos(0.6), -math.sin(0.6)], [math.sin(0.6), math.cos(0.6)]]).double()
    matrix = mixing @ blocks @ torch.linalg.inv(mixing)
    found = leading_eigenvalues(lambda frame: matrix @ frame, 20, count=2)
    expected = 0.9 * torch.exp(torch.tensor([0.6j, -0.6j], dtype=torch.complex128))
    assert (found.values[:, None] - expected).abs().amin(-1).max() < 1e-7
    assert found.residuals.max() < 1e-6
    singular, _ = leading_singular_values(
        lambda frame: matrix @ frame, lambda frame: matrix.T @ frame, matrix[0], count=3, iterations=200
    )
    torch.testing.assert_close(singular, torch.linalg.svdvals(matrix)[:3])
    # Eigenvalues of one modulus that no iteration can tell apart are seen in their residuals.
    turning = torch.linalg.qr(mixing).Q
    assert leading_eigenvalues(lambda frame: turning @ frame, 20, count=2).residuals.max() > 0.1


def test_exponents_of_maps_that_change_from_step_to_step() -> None:
    generator = torch.Generator().manual_seed(3)
    turns = [torch.linalg.qr(torch.randn((5, 5), generator=generator, dtype=torch.float64)).Q for _ in range(40)]
    scales = torch.tensor([2.0, 1.0, 0.5, 0.2, 0.1]).double()
    # Each step stretches along the directions that the one before turned to: the product is turns[-1] S^40.
    before = [torch.eye(5).double(), *turns[:-1]]
    steps = [turn * scales @ last.T for turn, last in zip(turns, before, strict=True)]
    stretches = exponents_of_products((lambda frame, step=step: step @ frame for step in steps), 5, count=3, warm_up=20)
    assert stretches.shape == (20, 3)
    torch.testing.assert_close(stretches.mean(0), scales[:3].log(), atol=1e-6, rtol=0)
    with pytest.raises(DataError, match="No step is left after a warm-up"):
        exponents_of_products([lambda frame: frame], 2, count=1, warm_up=1)
    with pytest.raises(DataError, match="step 1 holds NaN"):
        exponents_of_products([lambda frame: frame * torch.nan], 2, count=1)
    with pytest.raises(ConfigError, match=r"count must lie in 1\.\.2"):
        leading_eigenvalues(lambda frame: frame, 2, count=3)
    with pytest.raises(DataError, match="NaN or Inf"):
        leading_eigenvalues(lambda frame: frame * torch.nan, 2, count=1)
