"""The dispersion by instruments: what it is right about, where it is undefined, and its gradient."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError
from relax_rl.koopman import dispersion_from_lifted


def everywhere(states: torch.Tensor) -> torch.Tensor:
    return torch.ones(states.shape[:2], dtype=torch.bool)


def driven(length: int, batch: int, moduli: tuple[float, ...], noise: float, seed: int) -> torch.Tensor:
    """Stationary modes of unit variance, seen through a rotation with noise of measurement."""
    generator = torch.Generator().manual_seed(seed)
    roots = torch.tensor(moduli, dtype=torch.float64)
    state = torch.randn((batch, len(moduli)), generator=generator, dtype=torch.float64)
    states = []
    for _ in range(length):
        states.append(state)
        push = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        state = state * roots + push * (1 - roots**2).sqrt()
    mixing = torch.linalg.qr(torch.randn((len(moduli),) * 2, generator=generator, dtype=torch.float64)).Q
    seen = torch.stack(states, 1) @ mixing
    return seen + noise * torch.randn(seen.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_noise_of_measurement_does_not_bias_it(noise) -> None:
    moduli = (0.9, 0.9, 0.5, 0.5)
    states = driven(6000, 12, moduli, noise, seed=0)
    found = dispersion_from_lifted(states, everywhere(states), "instrumental")
    assert found.is_defined.all()
    assert found.values.mean() == pytest.approx(np.var(moduli), abs=0.008)  # equal moduli split, which adds a little
    if noise:
        assert dispersion_from_lifted(states, everywhere(states), "paper").values.mean() < 0.6 * np.var(moduli)


def instrumental_formula(states: np.ndarray) -> float:
    """Two-stage least squares on all directions, where all of them stand out."""
    states = states - states.mean(0)
    past, x, y = np.hstack([states[:-3], states[1:-2]]), states[2:-1], states[3:]
    explained = past @ np.linalg.lstsq(past, x, rcond=None)[0]
    moduli = np.abs(np.linalg.eigvals(np.linalg.lstsq(explained, y, rcond=None)[0]))
    return float(np.var(np.minimum(moduli, 1.0)))


def test_it_is_its_formula_where_every_direction_is_predicted() -> None:
    states = driven(400, 3, (0.95, 0.9, 0.8), 0.0, seed=1)
    found = dispersion_from_lifted(states, everywhere(states), "instrumental")
    expected = [instrumental_formula(row) for row in states.numpy()]
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    # The unit of the states, and a rotation of them, change nothing.
    turned = 1e5 * states @ torch.linalg.qr(torch.randn((3, 3), generator=torch.Generator().manual_seed(2)).double()).Q
    np.testing.assert_allclose(
        dispersion_from_lifted(turned, everywhere(turned), "instrumental").values, expected, atol=1e-9
    )


def test_padding_and_other_rows_change_nothing() -> None:
    states = driven(200, 4, (0.95, 0.8, 0.7), 0.1, seed=3)
    mask = torch.arange(200) < torch.tensor([200, 150, 120, 20])[:, None]
    alone = [
        dispersion_from_lifted(states[i : i + 1, :n], everywhere(states[i : i + 1, :n]), "instrumental")
        for i, n in enumerate((200, 150, 120))
    ]
    padded = torch.where(mask[..., None], states, torch.nan)
    found = dispersion_from_lifted(padded, mask, "instrumental")
    assert found.is_defined.tolist() == [True, True, True, False]
    np.testing.assert_allclose(found.values[:3], [float(each.values) for each in alone], atol=1e-10)
    assert found.values[3] == 0
    assert found.num_pairs.tolist() == [199, 149, 119, 19]


def test_white_noise_has_no_dispersion_by_instruments() -> None:
    noise = torch.randn((64, 100, 8), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = dispersion_from_lifted(noise, everywhere(noise), "instrumental")
    assert found.defined_share < 0.2
    assert (found.values[~found.is_defined] == 0).all()


def test_its_gradient_holds_the_directions_fixed_and_is_finite() -> None:
    states = driven(300, 2, (0.95, 0.9, 0.7), 0.2, seed=5)
    states[1, 10:] = 0.0
    leaf = states.clone().requires_grad_()
    mask = everywhere(states)
    mask[1, 10:] = False
    found = dispersion_from_lifted(leaf, mask, "instrumental")
    (gradient,) = torch.autograd.grad(found.values.sum(), leaf)
    assert torch.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    # All three directions are kept, so that holding the subspace fixed changes nothing: the gradient is the derivative.
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    step = 1e-5
    ends = [
        dispersion_from_lifted(states + sign * step * direction, mask, "instrumental").values.sum() for sign in (1, -1)
    ]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_it_takes_no_ridge() -> None:
    states = driven(100, 1, (0.9, 0.5), 0.0, seed=7)
    with pytest.raises(ConfigError, match="does not fit estimator='instrumental'"):
        dispersion_from_lifted(states, everywhere(states), "instrumental", ridge=0.1)
