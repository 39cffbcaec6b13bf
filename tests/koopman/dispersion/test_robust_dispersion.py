"""What the robust estimator promises: (a) not length, (b) bounded, (c) not inflated, (d) in the right order.

The reference of (c) is in numpy: modes fitted on every other pair of a window, each modulus measured on the pairs
between them. Heterogeneity that shows there was not made by fitting noise.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from relax_rl.koopman import dispersion_from_lifted


def lift(states: Tensor, F: int) -> Tensor:
    weight = np.random.default_rng(7).uniform(-1, 1, (states.shape[-1], F)) / np.sqrt(states.shape[-1])
    return torch.sigmoid(states @ torch.from_numpy(weight))


def dispersion(lifted: Tensor, estimator: str = "robust") -> Tensor:
    mask = torch.ones(lifted.shape[:2], dtype=torch.bool)
    return dispersion_from_lifted(lifted, mask, estimator).values.mean()  # type: ignore[arg-type]


def rotations(B: int, T: int, num_pairs: int) -> np.ndarray:
    """(B, T, 2 num_pairs): undamped rotations at random frequencies, every modulus 1."""
    rng = np.random.default_rng(3)
    angles = rng.uniform(0.3, 2.8, (B, 1, num_pairs)) * np.arange(T)[None, :, None]
    return np.concatenate([np.cos(angles), np.sin(angles)], -1)


def held_out_dispersion(lifted: Tensor, window: int = 32, rank: int = 8) -> float:
    found = []
    for row in lifted.detach().numpy():
        for start in range(0, len(row) - window, window // 2):
            x, y = row[start : start + window], row[start + 1 : start + window + 1]
            mean = (x.mean(0) + y.mean(0)) / 2
            _, s, vt = np.linalg.svd(np.concatenate([x - mean, y - mean]), full_matrices=False)
            x, y = (x - mean) @ vt[:rank].T / s[:rank], (y - mean) @ vt[:rank].T / s[:rank]
            for fold in (0, 1):
                a, b, c, d = x[fold::2], y[fold::2], x[1 - fold :: 2], y[1 - fold :: 2]
                modes = np.linalg.eig(np.linalg.solve(a.T @ a + b.T @ b, 2 * a.T @ b))[1]
                p, q = c @ modes, d @ modes
                power = (np.abs(p) ** 2 + np.abs(q) ** 2).sum(0) / 2
                found.append(np.var(np.abs((p.conj() * q).sum(0)) / power))
    return float(np.mean(found))


def ascend(start: Tensor, lifted: Callable[[Tensor, int], Tensor], estimator: str, steps: int = 500) -> Tensor:
    """`steps` steps of Adam up the dispersion of lifted(parameter, step)."""
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.02)
    for step in range(steps):
        optimizer.zero_grad()
        value = dispersion(lifted(parameter, step), estimator)
        assert torch.isfinite(value)
        (-value).backward()
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("F", [16, 50])
def test_a_expectation_does_not_depend_on_length(linear_system, F: int) -> None:
    batches = {64: 160, 200: 64, 1024: 24}
    lifted = {T: lift(linear_system(0.3, T, B, seed=T), F) for T, B in batches.items()}
    means = {T: dispersion(states).item() for T, states in lifted.items()}
    assert max(means.values()) < 1.1 * min(means.values()), means
    if F == 50:
        assert dispersion(lifted[1024], "paper") > 1.8 * dispersion(lifted[64], "paper")
        assert dispersion(lifted[64], "singular") > 3 * dispersion(lifted[1024], "singular")


def test_b_bounded_by_a_quarter_whatever_the_states() -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(80)[None, :, None]
    explosive = rng.standard_normal((16, 80, 12)) * np.exp(0.2 * steps * rng.random((16, 1, 12)))
    half_and_half = rng.standard_normal((16, 80, 12))
    half_and_half[:, :, :4] = 3 * rotations(16, 80, 2)
    for states in (explosive, half_and_half, np.cumsum(explosive, 1), rng.standard_cauchy((16, 80, 12))):
        result = dispersion_from_lifted(torch.from_numpy(states), torch.ones(16, 80, dtype=torch.bool), "robust")
        assert result.is_defined.all()
        assert result.values.ge(0).all()
        assert result.values.le(0.25).all()
        assert result.spectral_radius.le(1 + 1e-9).all()
    # The bound is nearly reached by modes that last for ever next to modes that do not last at all.
    assert dispersion(torch.from_numpy(half_and_half)) > 0.15


def test_c_directions_without_variance_are_not_modes() -> None:
    # Four modes of modulus 1 among twelve observables, the other eight all but empty: counted as modes of modulus zero
    # next to the four, they would bring the dispersion near its bound.
    empty = np.random.default_rng(1).standard_normal((8, 64, 8))
    lasting = rotations(8, 64, 2)
    assert dispersion(torch.from_numpy(np.concatenate([lasting, 1e-5 * empty], -1))) < 0.01
    assert dispersion(torch.from_numpy(np.concatenate([lasting, 0.1 * empty], -1))) > 0.1


def test_one_direction_of_noise_does_not_move_the_median_residual() -> None:
    lasting, noise = rotations(8, 64, 2), np.random.default_rng(1).standard_normal((8, 64, 1))
    states = torch.from_numpy(np.concatenate([lasting, noise], -1))
    found = dispersion_from_lifted(states, torch.ones(8, 64, dtype=torch.bool), "robust")
    # Four of five modes last; a mean would be a fifth of the way to the residual of noise, which is near 1.
    torch.testing.assert_close(found.spurious_share, torch.full((8,), 0.2, dtype=torch.float64))
    assert found.median_residual.lt(0.1).all()


def test_directions_that_are_left_out_have_no_residual() -> None:
    states = torch.from_numpy(np.concatenate([rotations(4, 64, 2), np.zeros((4, 64, 8))], -1))
    found = dispersion_from_lifted(states, torch.ones(4, 64, dtype=torch.bool), "robust")
    assert found.median_residual.lt(0.1).all()
    assert found.spurious_share.eq(0).all()
    assert found.condition.isfinite().all()


def test_a_trajectory_that_stands_still_has_no_condition_number() -> None:
    still = torch.ones(1, 40, 4, dtype=torch.float64)
    found = dispersion_from_lifted(still, torch.ones(1, 40, dtype=torch.bool), "robust")
    assert (found.values.item(), found.condition.item()) == (0.0, 0.0)


def test_c_ill_conditioned_mixing_changes_nothing(linear_system) -> None:
    states = linear_system(0.3, 64, 8, seed=4, H=8)
    scales = torch.logspace(0, -2, 8, dtype=torch.float64)
    torch.testing.assert_close(dispersion(states * scales), dispersion(states), rtol=1e-6, atol=0)


@pytest.mark.slow
def test_c_a_map_of_the_states_cannot_make_heterogeneity(linear_system) -> None:
    # An observation map leaves the spectrum of the dynamics as it is: true Var|lambda| stays 0.01 throughout. Every
    # step sees fresh noise, as a policy does, and the verdict is on noise that the ascent never saw.
    def lifted(matrix: Tensor, step: int) -> Tensor:
        return lift(linear_system(0.1, 64, 8, seed=100 + step) @ matrix, 16)

    identity = torch.eye(16, dtype=torch.float64)
    unseen = [10_000 + i for i in range(8)]
    growth = {}
    for estimator in ("robust", "singular"):
        reached = ascend(identity, lifted, estimator)
        before, after = (
            np.mean([dispersion(lifted(matrix, seed), estimator).item() for seed in unseen])
            for matrix in (identity, reached)
        )
        growth[estimator] = after / before
    assert growth["robust"] < 1.7, growth
    assert growth["singular"] > 20, growth


@pytest.mark.slow
def test_c_free_ascent_gains_what_held_out_pairs_confirm(linear_system) -> None:
    start = linear_system(0.1, 64, 8, seed=2)
    before = held_out_dispersion(lift(start, 16))
    growth, confirmed = {}, {}
    for estimator in ("robust", "paper", "singular"):
        reached = lift(ascend(start, lambda states, _: lift(states, 16), estimator), 16)
        value = dispersion(reached, estimator)
        growth[estimator] = (value / dispersion(lift(start, 16), estimator)).item()
        confirmed[estimator] = held_out_dispersion(reached) / before
        if estimator == "robust":
            assert value <= 0.25
    # The published estimators grow without any heterogeneity behind it; ours makes heterogeneity, and overstates its
    # growth by a factor that is bounded, and stated here.
    assert confirmed["robust"] > 2.5, confirmed
    assert growth["robust"] / confirmed["robust"] < 2.5, (growth, confirmed)
    # An ascent on an ill-posed target follows the rounding of the machine: below 1.6 on one, 1.76 on another.
    assert confirmed["paper"] < 0.6 * confirmed["robust"], confirmed
    assert confirmed["singular"] < 1.2, confirmed
    assert growth["singular"] > 100, growth


@pytest.mark.parametrize(("T", "F"), [(50, 16), (64, 50), (128, 16)])
def test_d_systems_of_known_heterogeneity_come_in_order(linear_system, T: int, F: int) -> None:
    means = [
        dispersion(lift(linear_system(spread, T, 64, seed=i), F)).item()
        for i, spread in enumerate((0, 0.15, 0.3, 0.45))
    ]
    assert all(b > 1.05 * a for a, b in pairwise(means)), means
    assert means[-1] > 2 * means[0], means
