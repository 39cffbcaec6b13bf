"""Gramians and responses of driven dynamics against SciPy and sums by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.spectra.control import controllability_gramian, impulse_response


def system(is_complex: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    dtype = torch.complex128 if is_complex else torch.float64
    operator = torch.randn((5, 5), generator=generator, dtype=dtype)
    operator *= 0.97 / torch.linalg.eigvals(operator).abs().max()
    return operator, torch.randn((2, 5), generator=generator, dtype=dtype)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_infinite_gramian_solves_its_equation(is_complex: bool) -> None:
    operator, control = system(is_complex)
    found = controllability_gramian(operator, control)
    expected = solve_discrete_lyapunov(operator.mH.resolve_conj().numpy(), (control.mH @ control).numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-10)
    long = controllability_gramian(operator, control, horizon=3000)
    torch.testing.assert_close(long, found)


def test_a_finite_gramian_is_the_sum_of_its_terms_and_tells_the_least_energy() -> None:
    operator, control = system()
    found = controllability_gramian(operator, control[0], horizon=7)
    expected = torch.zeros((5, 5), dtype=torch.float64)
    row = control[:1]
    rows = []
    for _ in range(7):
        expected += row.T @ row
        rows.append(row)
        row = row @ operator
    torch.testing.assert_close(found, expected)
    # The inputs of least energy that reach a target in 7 steps, by least squares.
    target = torch.ones(5, dtype=torch.float64)
    inputs = torch.linalg.lstsq(torch.cat(rows).T, target[:, None], driver="gelsd").solution
    torch.testing.assert_close(inputs.square().sum(), target @ torch.linalg.pinv(found) @ target, rtol=1e-6, atol=1e-6)
    response = impulse_response(operator, control, 3)
    torch.testing.assert_close(response[2], control @ operator @ operator)
    torch.testing.assert_close(found.trace(), impulse_response(operator, control[0], 7).square().sum())


def test_what_cannot_be_driven_is_refused() -> None:
    operator, control = system()
    with pytest.raises(ConfigError, match="spectral radius of 1,"):
        controllability_gramian(torch.eye(5), control)
    with pytest.raises(ConfigError, match="at least 1 step"):
        controllability_gramian(operator, control, horizon=0)
    with pytest.raises(ConfigError, match="at least 1"):
        impulse_response(operator, control, 0)
    with pytest.raises(DataError, match=r"operator must be \(F, F\)"):
        controllability_gramian(operator, control[:, :3])
    with pytest.raises(DataError, match="NaN or Inf"):
        controllability_gramian(operator * torch.nan, control)
    with pytest.raises(DataError, match=r"torch\.stack"):
        controllability_gramian([[1.0]], control)  # pyright: ignore[reportArgumentType]
