"""DMD in all its variants: known spectra, published numbers, and the same answer along every way to it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.pairs.snapshots import GramStatistics, gram_statistics, pack_trajectories, snapshot_pairs
from relax_rl.koopman.spectra.dmd import dmd, dmd_from_statistics, edmd
from relax_rl.koopman.spectra.residuals import primal_residuals

VARIANTS = ("least_squares", "forward_backward", "total_least_squares")
RIDGE_OF = {"ridge": 1e-3}
MONOMIAL_EIGENVALUES = [0.512, 0.576, 0.64, 0.648, 0.72, 0.729, 0.8, 0.81, 0.9, 1.0]


def orbit(matrix: np.ndarray, T: int, seed: int = 0) -> torch.Tensor:
    states = [np.random.default_rng(seed).standard_normal(len(matrix))]
    for _ in range(T - 1):
        states.append(states[-1] @ matrix)
    return torch.from_numpy(np.stack(states))


def stable_matrix() -> np.ndarray:
    """Eigenvalues 0.95 e^{+-0.3i}, 0.8, -0.6, 0.4 in a basis that is not orthogonal."""
    blocks = np.zeros((5, 5))
    c, s = 0.95 * np.cos(0.3), 0.95 * np.sin(0.3)
    blocks[:2, :2], blocks[2, 2], blocks[3, 3], blocks[4, 4] = [[c, s], [-s, c]], 0.8, -0.6, 0.4
    mixing = np.random.default_rng(1).standard_normal((5, 5)) + 2 * np.eye(5)
    return np.linalg.inv(mixing) @ blocks @ mixing


def assert_same_set(values, expected, atol: float) -> None:
    values, expected = np.asarray(values), np.asarray(expected, dtype=complex)
    assert len(values) == len(expected)
    distances = np.abs(values[:, None] - expected)
    np.testing.assert_allclose(distances.min(0), 0, atol=atol)
    np.testing.assert_allclose(distances.min(1), 0, atol=atol)


def tutorial() -> tuple[np.ndarray, np.ndarray]:
    """PyDMD's: sech(x+3) e^{2.3it}, and with 2 sech(x) tanh(x) e^{2.8it}, on 65 points and 129 times in [0, 4 pi]."""
    x, t = np.meshgrid(np.linspace(-5, 5, 65), np.linspace(0, 4 * np.pi, 129))
    first = 1 / np.cosh(x + 3) * np.exp(2.3j * t)
    return first, first + 2 / np.cosh(x) * np.tanh(x) * np.exp(2.8j * t)


@pytest.mark.parametrize("solver", ["auto", "svd", "gram", "randomised"])
def test_first_tutorial_of_pydmd(solver) -> None:
    first, both = tutorial()
    fitted = dmd(torch.from_numpy(both), rank=2, solver=solver)
    dt = 4 * np.pi / 128
    printed = [0.96245524 + 0.27144045j, 0.97461487 + 0.22388805j]
    assert_same_set(fitted.eigenvalues, printed, atol=5e-9)
    assert_same_set(fitted.eigenvalues, np.exp([2.8j * dt, 2.3j * dt]), atol=1e-12)
    assert_same_set(fitted.continuous_eigenvalues(dt), [2.8j, 2.3j], atol=1e-11)
    # The mode of 2.3 is sech(x + 3) up to its amplitude, which is the eigenfunction at time 0.
    which = int(fitted.eigenvalues.imag.argmin())
    amplitude = fitted.eigenfunctions(torch.from_numpy(both[:1]))[0, which]
    np.testing.assert_allclose(amplitude * fitted.modes[which], first[0], atol=1e-12)
    np.testing.assert_allclose(fitted.forecast(torch.from_numpy(both[0]), 128), both[1:], atol=1e-11)
    assert fitted.residuals.max() < 1e-13


def monomials(states: torch.Tensor) -> torch.Tensor:
    x, y = states[..., 0], states[..., 1]
    return torch.stack([x**i * y**j for i in range(4) for j in range(4 - i)], -1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_monomials_of_a_linear_map(variant) -> None:
    matrix = torch.tensor([[0.9, 0.1], [0.0, 0.8]], dtype=torch.float64)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (200, 2)))
    states, pairs = pack_trajectories(list(torch.stack([points, points @ matrix.T], 1)))
    fitted = edmd(states, pairs, observables=monomials, variant=variant)
    np.testing.assert_allclose(np.sort(fitted.eigenvalues.real), MONOMIAL_EIGENVALUES, atol=1e-14, rtol=0)
    assert fitted.eigenvalues.imag.abs().max() < 1e-14
    assert fitted.residuals.max() < 1e-13
    assert fitted.num_pairs == 200
    forecast = fitted.forecast(monomials(points[:3]), 2)
    torch.testing.assert_close(forecast[:, 1], points[:3] @ matrix.T @ matrix.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize("modes", ["projected", "exact"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_recovers_a_linear_system(variant, modes) -> None:
    matrix = stable_matrix()
    states = orbit(matrix, 25)
    fitted = dmd(states, variant=variant, modes=modes)
    assert_same_set(fitted.eigenvalues, np.linalg.eigvals(matrix), atol=1e-8)
    torch.testing.assert_close(fitted.forecast(states[3], 10), states[4:14], atol=1e-7, rtol=0)
    left = fitted.modes / torch.linalg.vector_norm(fitted.modes, dim=-1, keepdim=True)
    error = left @ torch.from_numpy(matrix).to(left.dtype) - fitted.eigenvalues[:, None] * left
    assert error.abs().max() < 1e-6  # the rows are left eigenvectors of the map from the right


def test_ridge_and_measure_preserving_against_numpy() -> None:
    rng = np.random.default_rng(3)
    states = rng.standard_normal((40, 4)) @ np.diag([3.0, 1.0, 0.5, 0.2])
    x, y = states[:-1], states[1:]
    gram = x.T @ x
    ridge = np.linalg.solve(gram + 0.3 * np.trace(gram) / 4 * np.eye(4), x.T @ y)
    fitted = dmd(torch.from_numpy(states), variant="ridge", ridge=0.3)
    assert_same_set(fitted.eigenvalues, np.linalg.eigvals(ridge), atol=1e-12)
    np.testing.assert_allclose(dmd(torch.from_numpy(states), variant="measure_preserving").eigenvalues.abs(), 1)


def test_exact_modes_against_their_definition() -> None:
    rng = np.random.default_rng(4)
    states = rng.standard_normal((8, 20))
    x, y = states[:-1], states[1:]
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    u, s, vh = u[:, :3], s[:3], vh[:3]
    exact = dmd(torch.from_numpy(states), rank=3, modes="exact")
    projected = dmd(torch.from_numpy(states), rank=3)
    full = np.linalg.pinv(u @ np.diag(s) @ vh) @ y  # its left eigenvectors are the exact modes (Tu et al., Theorem 1)
    for value, mode in zip(exact.eigenvalues.numpy(), exact.modes.numpy(), strict=True):
        np.testing.assert_allclose(mode @ full, value * mode, atol=1e-12)
    np.testing.assert_allclose(projected.modes.numpy() @ vh.T @ vh, projected.modes, atol=1e-12)
    np.testing.assert_allclose(exact.modes.numpy() @ vh.T @ vh, projected.modes, atol=1e-12)


def test_residuals_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(5)
    states = torch.from_numpy(rng.standard_normal((12, 30)))
    fitted = dmd(states, rank=5)
    x, y = states[:-1], states[1:]
    torch.testing.assert_close(fitted.residuals, primal_residuals(x, y, fitted.eigenvalues, fitted.eigenvectors))
    whole = dmd(states)
    assert whole.is_interpolating
    assert whole.residuals.max() < 1e-12
    gram = gram_statistics(states[None, :, :6], torch.ones((1, 11), dtype=torch.bool))
    streamed = dmd_from_statistics(GramStatistics(gram.gram[0], gram.cross[0], gram.future[0], gram.num_pairs[0]))
    torch.testing.assert_close(streamed.residuals, dmd(states[:, :6]).residuals, atol=1e-7, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), solver=st.sampled_from(["svd", "gram", "randomised"]), is_wide=st.booleans())
def test_solvers_agree(seed: int, solver, is_wide: bool) -> None:
    rng = np.random.default_rng(seed)
    T, F = (12, 40) if is_wide else (60, 9)
    shrink = 0.5 ** np.arange(min(T, F))
    left, right = np.linalg.qr(rng.standard_normal((T, len(shrink))))[0], rng.standard_normal((len(shrink), F))
    states = torch.from_numpy(left @ np.diag(shrink) @ right)
    x, y = states[:-1].numpy(), states[1:].numpy()
    basis = np.linalg.svd(x, full_matrices=False)[2][:4].T
    expected = np.linalg.eigvals(np.linalg.pinv(x @ basis) @ y @ basis)
    fitted = dmd(states, rank=4, solver=solver, seed=seed)
    assert_same_set(fitted.eigenvalues, expected, atol=1e-3 if solver == "randomised" else 1e-9)
    assert fitted.rank == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_computed_in_float64(dtype) -> None:
    states = torch.from_numpy(np.random.default_rng(6).standard_normal((30, 80))).to(dtype)
    for rank in (None, 5):
        assert_same_set(dmd(states, rank=rank).eigenvalues, dmd(states.double(), rank=rank).eigenvalues, atol=1e-10)


def test_auto_gives_up_the_gram_matrix_where_it_would_lose_the_input() -> None:
    rng = np.random.default_rng(7)
    left, right = np.linalg.qr(rng.standard_normal((20, 6)))[0], np.linalg.qr(rng.standard_normal((50, 6)))[0]
    states = torch.from_numpy(left @ np.diag(10.0 ** -np.arange(6)) @ right.T).float()
    exact = dmd(states.double(), rank=6, solver="svd").eigenvalues
    assert_same_set(dmd(states, rank=6).eigenvalues, exact, atol=1e-9 * float(exact.abs().max()))


@pytest.mark.parametrize("variant", [*VARIANTS, "ridge", "measure_preserving"])
def test_a_batch_is_each_trajectory_alone_whatever_stands_behind_the_mask(variant) -> None:
    rng = np.random.default_rng(8)
    lengths = (20, 5, 12)
    states = torch.from_numpy(rng.standard_normal((3, 20, 6)))
    states[2, :, 4:] = 0.0
    mask = torch.arange(20) < torch.tensor(lengths)[:, None]
    batch = torch.where(mask[..., None], states, torch.nan)
    ridge = RIDGE_OF.get(variant, 0.0)
    fitted = dmd(batch, snapshot_pairs(mask), variant=variant, ridge=ridge, modes="exact")
    assert fitted.rank.tolist() == [6, 4, 4]
    assert fitted.is_interpolating.tolist() == [False, True, False]
    for row, length in enumerate(lengths):
        alone = dmd(states[row, :length], variant=variant, ridge=ridge, modes="exact")
        size = int(alone.rank)
        assert_same_set(fitted.eigenvalues[row, :size], alone.eigenvalues, atol=1e-10)
        assert not fitted.eigenvalues[row, size:].any()
        assert fitted.residuals[row, size:].isnan().all()
        start = states[row, 1]
        torch.testing.assert_close(fitted_forecast(fitted, row, start), alone.forecast(start, 3), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("variant", [*VARIANTS, "ridge", "measure_preserving"])
def test_a_trajectory_without_pairs_harms_no_other(variant) -> None:
    states = torch.from_numpy(np.random.default_rng(14).standard_normal((2, 20, 4)))
    mask = torch.tensor([True, False])[:, None].expand(2, 20)
    ridge = RIDGE_OF.get(variant, 0.0)
    fitted = dmd(torch.where(mask[..., None], states, torch.nan), snapshot_pairs(mask), variant=variant, ridge=ridge)
    assert_same_set(fitted.eigenvalues[0], dmd(states[0], variant=variant, ridge=ridge).eigenvalues, atol=1e-12)
    assert fitted.rank.tolist() == [4, 0]
    assert not fitted.eigenvalues[1].any()
    assert fitted.condition[1] == torch.inf
    assert torch.isfinite(fitted.modes.abs()).all()


def fitted_forecast(fitted, row: int, start: torch.Tensor) -> torch.Tensor:
    phi = start.to(torch.complex128) @ fitted.eigenvectors[row]
    return torch.stack([(phi * fitted.eigenvalues[row] ** k) @ fitted.modes[row] for k in (1, 2, 3)]).real


def test_ragged_trajectories_share_one_operator_and_no_pair_crosses() -> None:
    matrix = stable_matrix()
    parts = [orbit(matrix, T, seed) for seed, T in enumerate((4, 3, 9, 1))]
    fitted = dmd(*pack_trajectories(parts))
    assert_same_set(fitted.eigenvalues, np.linalg.eigvals(matrix), atol=1e-9)
    assert fitted.num_pairs == 3 + 2 + 8
    crossed = dmd(torch.cat(parts))  # as one trajectory: the jumps between them are no dynamics
    assert crossed.residuals.max() > 1e-2


def test_wide_trajectories_through_their_inner_products() -> None:
    parts = list(torch.from_numpy(np.random.default_rng(12).standard_normal((3, 6, 40))))
    packed = pack_trajectories(parts)
    through_gram, direct = dmd(*packed, rank=9, solver="gram"), dmd(*packed, rank=9, solver="svd")
    assert_same_set(through_gram.eigenvalues, direct.eigenvalues, atol=1e-10)
    assert through_gram.num_pairs == 15


def test_lifting_sees_nothing_outside_the_pairs() -> None:
    states = orbit(stable_matrix(), 12)[None].repeat(2, 1, 1)
    mask = torch.ones((2, 12), dtype=torch.bool)
    mask[1, 9:] = False
    states[1, 9:] = torch.nan
    fitted = edmd(states, snapshot_pairs(mask), observables=lambda s: torch.cat([s, s.exp()], -1), rank=5)
    assert torch.isfinite(fitted.eigenvalues.abs()).all()
    alone = edmd(states[1, :9], observables=lambda s: torch.cat([s, s.exp()], -1), rank=5)
    assert_same_set(fitted.eigenvalues[1], alone.eigenvalues, atol=1e-7)


@pytest.mark.parametrize("rank", [3, 0.99, "optimal"])
def test_ranks_reach_the_fit(rank) -> None:
    rng = np.random.default_rng(9)
    phases = np.exp(np.outer(np.arange(100), [0.3j, 0.9j, 1.7j]))
    signal = (phases * [3.0, 2.0, 1.5]) @ np.linalg.qr(rng.standard_normal((40, 3)))[0].T
    noise = 0.02 * rng.standard_normal((100, 40))
    fitted = dmd(torch.from_numpy(signal + noise), rank=rank)
    assert fitted.rank == 3
    assert_same_set(fitted.eigenvalues, np.exp([0.3j, 0.9j, 1.7j]), atol=5e-3)


def test_statistics_alone_give_the_same() -> None:
    states = torch.from_numpy(np.random.default_rng(10).standard_normal((50, 6)))
    pooled = gram_statistics(states[None], torch.ones((1, 49), dtype=torch.bool))
    single = GramStatistics(pooled.gram[0], pooled.cross[0], pooled.future[0], pooled.num_pairs[0])
    for modes in ("projected", "exact"):
        for variant in VARIANTS:
            whole = dmd(states, rank=4, variant=variant, modes=modes)
            streamed = dmd_from_statistics(single, rank=4, variant=variant, modes=modes)
            assert_same_set(streamed.eigenvalues, whole.eigenvalues, atol=1e-10)
            torch.testing.assert_close(
                streamed.forecast(states[0], 3), whole.forecast(states[0], 3), atol=1e-10, rtol=1e-8
            )


@pytest.mark.parametrize("points", [np.random.default_rng(11).standard_normal((30, 3)), np.eye(3)])
def test_defective_dynamics_have_finite_modes(points: np.ndarray) -> None:
    jordan = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    first = torch.from_numpy(points)
    fitted = dmd(*pack_trajectories(list(torch.stack([first, first @ jordan], 1))), modes="exact")
    assert fitted.eigenvalues.abs().max() < 1e-4  # the cube root of rounding
    assert torch.isfinite(fitted.modes.abs()).all()


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_zero_eigenvalue_keeps_its_projected_mode(angle: float) -> None:
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    first = torch.from_numpy(np.random.default_rng(13).standard_normal((30, 2)))
    second = first @ turn.T @ torch.diag(torch.tensor([0.5, 0.0]).double()) @ turn
    fitted = dmd(*pack_trajectories(list(torch.stack([first, second], 1))), modes="exact")
    assert_same_set(fitted.eigenvalues, [0.5, 0.0], atol=1e-14)
    direction = fitted.modes[1].abs() / torch.linalg.vector_norm(fitted.modes[1])
    torch.testing.assert_close(direction, turn[1].abs(), atol=1e-12, rtol=0)


def test_mistakes_are_named() -> None:
    states = torch.ones((5, 3), dtype=torch.float64).cumsum(0)
    with pytest.raises(ConfigError, match="variant"):
        dmd(states, variant="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="modes"):
        dmd(states, modes="all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="solver"):
        dmd(states, solver="qr")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="whole number"):
        dmd(states, solver="randomised")
    with pytest.raises(ConfigError, match="ridge"):
        dmd(states, ridge=0.1)
    with pytest.raises(ConfigError, match="ridge"):
        dmd(states, variant="ridge")
    with pytest.raises(ConfigError, match=r"1\.\.3"):
        dmd(states, rank=4)
    with pytest.raises(ConfigError, match="dt"):
        dmd(states).continuous_eigenvalues(0.0)
    with pytest.raises(DataError, match="all zero"):
        dmd(torch.zeros(4, 2))
    with pytest.raises(DataError, match="NaN"):
        dmd(states / 0 * 0)
    with pytest.raises(DataError, match="T >= 2"):
        dmd(states[:1])
    with pytest.raises(DataError, match="bool"):
        dmd(states, torch.ones(4))
    with pytest.raises(DataError, match="beside"):
        dmd(states, torch.ones(5, dtype=torch.bool))
