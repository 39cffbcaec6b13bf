"""Single precision for speed: within the bound that the result states, and double where no bound is good enough."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError
from relax_rl.koopman import dispersion_from_lifted, dynamic_spectral_dispersion
from relax_rl.koopman.dispersion.estimators import Estimator, dispersion_from_gram
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.eigenpairs import SINGLE_TOLERANCE, eigenvalue_moduli


def matched(found: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Distance (...) of the farthest eigenvalue from any of the exact ones."""
    return (found[..., :, None] - exact[..., None, :]).abs().amin(-1).amax(-1)


@pytest.mark.parametrize("departure", [0.0, 0.5, 2.0, 5.0])
def test_no_eigenvalue_is_further_off_than_the_bound(departure: float) -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn((40, 30, 30), generator=generator, dtype=torch.float64)).Q
    upper = departure * torch.randn((40, 30, 30), generator=generator, dtype=torch.float64).triu(1) / 30**0.5
    values = torch.rand((40, 30), generator=generator, dtype=torch.float64) * 2 - 1
    matrix = turn @ (torch.diag_embed(values) + upper) @ turn.mT
    found = eigenvalue_moduli(matrix, is_single=True)
    is_single = found.error > 0
    assert bool((found.error <= SINGLE_TOLERANCE).all())
    off = matched(found.eigenvalues.to(torch.complex128), values.to(torch.complex128))
    assert bool((off[is_single] <= found.error[is_single]).all())
    # It is a bound, not a guess that is a thousand times too large: what is off is within a factor of some hundred.
    if departure == 0:
        assert is_single.all()
        assert off.median() > 1e-3 * found.error.median()
    if departure == 5.0:
        assert not is_single.any()
        assert torch.equal(found.values, eigenvalue_moduli(matrix).values)


def test_matrices_that_single_precision_does_not_suit_are_solved_in_double_beside_the_others() -> None:
    generator = torch.Generator().manual_seed(1)
    easy = torch.randn((3, 6, 6), generator=generator, dtype=torch.float64) / 3
    jordan = 0.5 * torch.eye(6).double() + torch.diag(torch.ones(5).double(), 1)
    matrices = torch.stack([easy[0], jordan, easy[1], easy[2]])
    single, double = (eigenvalue_moduli(matrices, is_single=flag) for flag in (True, False))
    assert (single.error > 0).tolist() == [True, False, True, True]
    torch.testing.assert_close(single.values, double.values, atol=1e-5, rtol=0)
    assert torch.equal(single.values[1], double.values[1])
    assert torch.equal(single.num_clamped, double.num_clamped)
    alone = eigenvalue_moduli(jordan, is_single=True)
    assert torch.equal(alone.values, double.values[1])
    assert double.error.tolist() == [0.0] * 4
    empty = eigenvalue_moduli(matrices[:0], is_single=True)
    assert empty.values.shape == (0, 6)


@pytest.mark.parametrize("estimator", ["paper", "singular"])
def test_a_dispersion_is_within_the_bound_that_it_states(linear_system, estimator: Estimator) -> None:
    states = linear_system(0.3, 400, 12, seed=1)
    states = states - states.mean(1, keepdim=True)
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    mask[3, 10:] = False
    exact = dispersion_from_lifted(states, mask, estimator)
    found = dispersion_from_lifted(states, mask, estimator, precision="single")
    assert found.error_bound is not None
    assert exact.error_bound is not None
    assert exact.error_bound.tolist() == [0.0] * 12
    assert found.is_defined.tolist() == exact.is_defined.tolist()
    kept = found.is_defined
    assert bool((found.error_bound[kept] > 0).all())
    assert bool(((found.values - exact.values).abs() <= found.error_bound)[kept].all())
    assert found.error_bound.max() < 1e-3
    torch.testing.assert_close(found.spectral_radius, exact.spectral_radius, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.median_residual, exact.median_residual, atol=1e-3, rtol=0, equal_nan=True)


@pytest.mark.parametrize("estimator", ["paper", "singular"])
def test_the_gradient_is_that_of_double_precision_to_single(linear_system, estimator: Estimator) -> None:
    states = linear_system(0.3, 300, 4, seed=2)
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    gradients = []
    for precision in ("double", "single"):
        leaf = (states - states.mean(1, keepdim=True)).clone().requires_grad_()
        dispersion_from_lifted(leaf, mask, estimator, precision=precision).values.sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.dtype == torch.float64
        gradients.append(leaf.grad)
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-3 * float(gradients[0].abs().max()))


def test_single_precision_is_refused_where_it_has_no_bound(linear_system, dictionary) -> None:
    states = linear_system(0.3, 60, 2, seed=1)
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    for estimator in ("robust", "instrumental"):
        with pytest.raises(ConfigError, match=r"precision='single' does not fit estimator='(robust|instrumental)'"):
            dispersion_from_lifted(states, mask, estimator, precision="single")
    with pytest.raises(ConfigError, match="Unknown precision 'half'"):
        dispersion_from_lifted(states, mask, precision="half")  # pyright: ignore[reportArgumentType]
    statistics = gram_statistics(states, torch.ones((2, 59), dtype=torch.bool))
    assert dispersion_from_gram(statistics, precision="single").error_bound is not None
    lifted = dynamic_spectral_dispersion(states.float(), mask, dictionary, precision="single")
    assert lifted.error_bound is not None
