"""Spectra of systems that are driven by noise and measured with noise: instruments, subspaces, ranks and scores."""

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dmd, gram_from_trajectories, subspace_dmd
from relax_rl.koopman.operators.instruments import instrumental_operator, subspace_operator
from relax_rl.koopman.pairs.lags import lagged_statistics
from relax_rl.koopman.spectra.control import dmd_with_control
from relax_rl.koopman.spectra.dmd import dmd_from_statistics
from relax_rl.koopman.spectra.reduced_rank_dmd import reduced_rank_dmd
from relax_rl.koopman.spectra.vamp import cross_validated_rank, vamp_score

TRUE = 0.9 * np.exp(0.3j)


def driven(seed: int, *, length: int = 1000, process: float = 0.1, measurement: float = 0.2) -> torch.Tensor:
    """z' = 0.9 R(0.3) z + 0.1 w, seen in 20 features with noise 0.2."""
    rng = np.random.default_rng(seed)
    rotation = 0.9 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    states = np.zeros((length, 2))
    states[0] = 0.23 * rng.standard_normal(2)
    for t in range(length - 1):
        states[t + 1] = states[t] @ rotation.T + process * rng.standard_normal(2)
    features = np.linalg.qr(rng.standard_normal((20, 2)))[0].T
    return torch.from_numpy(states @ features + measurement * rng.standard_normal((length, 20)))


def mean_modulus(fit) -> float:
    return float(np.mean([float(fit(driven(seed)).eigenvalues.abs().mean()) for seed in range(25)]))


def test_only_past_snapshots_tell_process_noise_from_noise_of_measurement() -> None:
    moduli = {
        "least_squares": mean_modulus(lambda states: dmd(states, rank=2)),
        "forward_backward": mean_modulus(lambda states: dmd(states, rank=2, variant="forward_backward")),
        "total_least_squares": mean_modulus(lambda states: dmd(states, rank=2, variant="total_least_squares")),
        "instrumental": mean_modulus(lambda states: dmd(states, rank=2, variant="instrumental")),
        "subspace": mean_modulus(lambda states: subspace_dmd(states, rank=2)),
    }
    assert moduli["least_squares"] < 0.6  # noise of measurement read as decay
    assert moduli["forward_backward"] > 0.98  # noise of the process read as growth
    assert moduli["total_least_squares"] > 0.98
    assert abs(moduli["instrumental"] - 0.9) < 0.02
    assert abs(moduli["subspace"] - 0.9) < 0.02


def linear(size: int = 4, length: int = 25, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((size, size)) + 2 * np.eye(size)
    matrix = np.linalg.inv(mixing) @ np.diag([0.95, 0.8, -0.6, 0.4][:size]) @ mixing
    states = [rng.standard_normal(size)]
    for _ in range(length - 1):
        states.append(states[-1] @ matrix)
    return torch.from_numpy(np.stack(states)), matrix


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    "fit", [lambda z: dmd(z, variant="instrumental"), subspace_dmd], ids=["instrumental", "subspace"]
)
def test_a_system_without_noise_is_recovered_from_ragged_trajectories(fit, is_complex) -> None:
    states, matrix = linear()
    scale = 1.0 + (1.0j if is_complex else 0.0)
    fitted = fit([states[:14] * scale, states[10:] * scale, states[:2] * scale])
    np.testing.assert_allclose(np.sort(fitted.eigenvalues.real), np.sort(np.linalg.eigvals(matrix).real), atol=1e-9)
    assert fitted.residuals.max() < 1e-9
    torch.testing.assert_close(fitted.forecast(states[3] * scale, 10), states[4:14] * scale, atol=1e-8, rtol=0)


def test_the_instrumental_operator_against_two_stage_least_squares() -> None:
    states = driven(3, length=60)[:, :4]
    fitted = instrumental_operator(lagged_statistics(states, torch.ones(59, dtype=torch.bool), 4))
    past, x, y = torch.cat([states[:-3], states[1:-2]], 1), states[2:-1], states[3:]
    explained = past @ torch.linalg.lstsq(past, x).solution
    torch.testing.assert_close(fitted.matrix, torch.linalg.lstsq(explained, y).solution, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(fitted.condition, torch.linalg.cond(explained), rtol=1e-6, atol=0)


def test_the_instrumental_operator_has_a_gradient() -> None:
    states = driven(4, length=12)[:, :2].clone().requires_grad_()
    pairs = torch.ones(11, dtype=torch.bool)

    def moduli(values: torch.Tensor) -> torch.Tensor:
        return instrumental_operator(lagged_statistics(values, pairs, 3)).matrix

    assert torch.autograd.gradcheck(moduli, (states,))


def test_subspace_dmd_against_its_definition() -> None:
    """Takeishi et al. 2017, Algorithm 1, with time along columns as printed."""
    states = driven(5, length=80)[:, :5].numpy().T
    past, future = np.vstack([states[:, :-3], states[:, 1:-2]]), np.vstack([states[:, 2:-1], states[:, 3:]])
    left, scales, _ = np.linalg.svd(future @ past.T @ np.linalg.pinv(past @ past.T) @ past, full_matrices=False)
    first, second = left[:5, :3], left[5:, :3]
    u, s, vh = np.linalg.svd(first, full_matrices=False)
    expected = np.linalg.eigvals(u.T @ second @ vh.T @ np.diag(1 / s))
    fitted = subspace_dmd(torch.from_numpy(states.T.copy()), rank=3)
    np.testing.assert_allclose(np.sort_complex(fitted.eigenvalues.numpy()), np.sort_complex(expected), atol=1e-9)
    np.testing.assert_allclose(fitted.singular_values, scales[:3], rtol=1e-9)


def test_reduced_rank_regression_is_the_best_operator_of_its_rank() -> None:
    states = driven(6, length=50)[:, :4]
    x, y = states[:-1], states[1:]
    full = torch.linalg.lstsq(x, y).solution
    _, _, right = torch.linalg.svd(x @ full, full_matrices=False)  # Izenman 1975: project on what is explained
    expected = torch.linalg.eigvals(full @ right[:2].T @ right[:2])
    fitted = reduced_rank_dmd(states, rank=2)
    largest = expected[expected.abs().argsort(descending=True)][:2]
    np.testing.assert_allclose(
        np.sort_complex(fitted.eigenvalues[:2].numpy()), np.sort_complex(largest.numpy()), atol=1e-9
    )
    assert fitted.eigenvalues[2:].abs().max() < 1e-9
    ridged = reduced_rank_dmd(states, rank=4, ridge=0.3)
    torch.testing.assert_close(
        ridged.eigenvalues.abs(), dmd(states, variant="ridge", ridge=0.3).eigenvalues.abs(), atol=1e-9, rtol=0
    )


def test_control_tells_the_dynamics_from_what_drives_them() -> None:
    rng = np.random.default_rng(7)
    _, matrix = linear(3, seed=1)
    effect, inputs = rng.standard_normal((2, 3)), rng.standard_normal((40, 2)) * [1.0, 1e-6]
    states = [rng.standard_normal(3)]
    for given in inputs[:-1]:
        states.append(states[-1] @ matrix + given @ effect)
    snapshots, inputs = torch.from_numpy(np.stack(states)), torch.from_numpy(inputs)
    fitted = dmd_with_control(snapshots, inputs)
    np.testing.assert_allclose(fitted.operator, matrix, atol=1e-8)
    np.testing.assert_allclose(fitted.control, effect, atol=1e-6)
    np.testing.assert_allclose(
        np.sort(fitted.modes.eigenvalues.real), np.sort(np.linalg.eigvals(matrix).real), atol=1e-8
    )
    torch.testing.assert_close(fitted.forecast(snapshots[0], inputs[:-1]), snapshots[1:], atol=1e-8, rtol=0)
    with pytest.raises(DataError, match="linear function of the states"):
        dmd_with_control(snapshots, snapshots[:, :1])
    with pytest.raises(DataError, match="zero at every pair"):
        dmd_with_control(snapshots, torch.zeros((40, 1)))
    with pytest.raises(DataError, match="inputs \\(T, U\\)"):
        dmd_with_control(snapshots, inputs[:-1])


def test_vamp_scores_against_their_definitions() -> None:
    states = driven(8, length=200)[:, :3]
    x, y = states[:-1].numpy(), states[1:].numpy()

    def inverse_root(gram: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(gram)
        return vectors @ np.diag(values**-0.5) @ vectors.T

    values = np.linalg.svd(inverse_root(x.T @ x) @ x.T @ y @ inverse_root(y.T @ y), compute_uv=False)
    sums = gram_from_trajectories(states, lambda given: given)
    assert vamp_score(sums, 1) == pytest.approx(values.sum())
    assert vamp_score(sums, 2) == pytest.approx((values**2).sum())
    assert vamp_score(sums, 2, rank=1) == pytest.approx(values[0] ** 2)
    # On the training data the explained error is the same as VAMP-2.
    assert vamp_score(sums, "E", rank=2) == pytest.approx((values[:2] ** 2).sum())
    fresh = driven(9, length=400)[:, :3]
    a, b = fresh[:-1].numpy(), fresh[1:].numpy()
    u, s, vh = np.linalg.svd(inverse_root(x.T @ x / 199) @ (x.T @ y / 199) @ inverse_root(y.T @ y / 199))
    left, right = inverse_root(x.T @ x / 199) @ u, inverse_root(y.T @ y / 199) @ vh.T
    scales = np.diag(s)
    cross, first, second = (
        left.T @ a.T @ b @ right / 399,
        left.T @ a.T @ a @ left / 399,
        right.T @ b.T @ b @ right / 399,
    )
    expected = np.trace(2 * scales @ cross - scales @ first @ scales @ second)
    assert vamp_score(sums, "E", test=gram_from_trajectories(fresh, lambda given: given)) == pytest.approx(expected)
    with pytest.raises(ConfigError, match="Unknown score"):
        vamp_score(sums, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rank must be at least 1"):
        vamp_score(sums, rank=0)


def test_validation_finds_the_rank_of_the_system() -> None:
    rank, scores = cross_validated_rank(driven(10, measurement=0.05), ranks=(1, 2, 4, 8, 16))
    assert rank == 2
    assert scores[1] == max(scores)
    assert scores[2] > scores[3] > scores[4]  # more directions, more noise
    with pytest.raises(ConfigError, match="at least 2 folds"):
        cross_validated_rank(driven(10), ranks=(1,), folds=1)
    with pytest.raises(DataError, match="use fewer folds"):
        cross_validated_rank(driven(10)[:4], ranks=(1,), folds=5)


def test_too_few_snapshots_in_a_row_are_refused() -> None:
    short = [torch.eye(3, 4), torch.ones(3, 4)]
    with pytest.raises(DataError, match="no trajectory has 4 in a row"):
        dmd(short, variant="instrumental")
    with pytest.raises(DataError, match="4 snapshots in a row"):
        subspace_dmd(short)
    with pytest.raises(ConfigError, match="optimal"):
        subspace_dmd(driven(0), rank="optimal")
    with pytest.raises(DataError, match="index the batch"):
        subspace_dmd(torch.ones((2, 5, 3)))
    sums = lagged_statistics(torch.ones((5, 2)), torch.ones(4, dtype=torch.bool), 2)
    with pytest.raises(ConfigError, match="at least 3 snapshots"):
        instrumental_operator(sums)
    with pytest.raises(ConfigError, match="windows of 4 snapshots"):
        subspace_operator(sums, 1)


def test_statistics_of_pairs_have_no_instruments() -> None:
    with pytest.raises(ConfigError, match="do not hold the snapshots before each pair"):
        dmd_from_statistics(gram_from_trajectories(driven(0), lambda given: given), variant="instrumental")
