"""KoopSTD and dynamical similarity analysis: exact on linear systems, true metrics, and as the papers mean them."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.stats import ortho_group
from sklearn.metrics import silhouette_score

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import spectral_wasserstein
from relax_rl.koopman.similarity import distances
from relax_rl.koopman.similarity.distances import spectral_wasserstein_matrix
from relax_rl.koopman.similarity.koopstd import KoopSTD, koopstd_distance, koopstd_distances, short_time_frames
from relax_rl.koopman.similarity.vector_fields import delay_operator, delay_spectrum, vector_field_distance


def linear_signal(eigenvalues: list[complex], T: int, H: int, seed: int = 0, noise: float = 0.0) -> torch.Tensor:
    """Real (T, H): every channel mixes the modes lambda^t, real and imaginary part."""
    rng = np.random.default_rng(seed)
    powers = np.asarray(eigenvalues)[None] ** np.arange(T)[:, None]
    modes = np.concatenate([powers.real, powers.imag], 1)
    return torch.from_numpy(modes @ rng.standard_normal((modes.shape[1], H)) + noise * rng.standard_normal((T, H)))


def sorted_values(values) -> np.ndarray:
    return np.sort_complex(np.round(np.asarray(values, dtype=complex), 8))


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taper", ["rectangular", "hann"])
@pytest.mark.parametrize(("T", "window", "hop"), [(40, 9, 4), (33, 8, 1), (30, 10, 20)])
def test_frames_are_the_real_part_of_torchs_transform_without_padding(taper, T: int, window: int, hop: int) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((T, 3)))
    weights = torch.ones(window) if taper == "rectangular" else torch.hann_window(window, dtype=torch.float64)
    expected = torch.stft(
        x.T, window, hop, window=weights.double(), center=False, return_complex=True
    )  # channels, frequencies, frames
    frames = short_time_frames(x, window=window, hop=hop, taper=taper)
    torch.testing.assert_close(frames, expected.real.permute(2, 0, 1).flatten(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("taper", ["rectangular", "hann"])
def test_frames_of_a_geometric_signal_move_by_its_ratio_to_the_hop(taper) -> None:
    ratio, hop = 0.97, 5
    x = torch.tensor([ratio**t for t in range(200)], dtype=torch.float64).unsqueeze(1)
    frames = short_time_frames(x, window=20, hop=hop, taper=taper)
    error = (frames[1:] - ratio**hop * frames[:-1]).norm(dim=1) / frames[:-1].norm(dim=1)
    assert error.max() < 2e-15  # 3e-16 but for where the sums of a frame nearly cancel


# --- KoopSTD ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", [0.96, 1.03])
@pytest.mark.parametrize("H", [4, 40])  # frames longer than wide, and wider than long
def test_eigenvalues_of_a_linear_system_are_those_of_a_hop(growth: float, H: int) -> None:
    own = [growth, 0.99 * np.exp(0.4j)]
    spectrum = KoopSTD(window=12, hop=3, rank=6, num_modes=None).spectrum(linear_signal(own, 120, H))
    expected = [growth**3, (0.99 * np.exp(0.4j)) ** 3, (0.99 * np.exp(-0.4j)) ** 3]
    np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), sorted_values(expected), atol=1e-7)
    assert spectrum.residuals.max() < 1e-6


def test_trajectories_of_different_rank_keep_their_own_modes_in_a_batch() -> None:
    signals = [[0.9], [0.95, 0.9 * np.exp(0.5j)]]
    trajectories = [linear_signal(own, 80, 3, seed=i) for i, own in enumerate(signals)]
    method = KoopSTD(window=6, hop=2, rank=5, num_modes=None)
    for spectrum, trajectory in zip(method.spectra(trajectories), trajectories, strict=True):
        np.testing.assert_allclose(
            sorted_values(spectrum.eigenvalues), sorted_values(method.spectrum(trajectory).eigenvalues), atol=1e-7
        )
    assert [len(spectrum.eigenvalues) for spectrum in method.spectra(trajectories)] == [1, 3]


def test_a_ridge_shrinks_a_single_mode_by_its_share() -> None:
    x = linear_signal([0.9], 60, 2)
    spectrum = KoopSTD(window=6, hop=2, rank=1, ridge=0.25).spectrum(x)
    np.testing.assert_allclose(spectrum.eigenvalues, [0.9**2 / 1.25], atol=1e-12)


def test_continuous_eigenvalues_do_not_depend_on_the_hop() -> None:
    x = linear_signal([np.exp(0.01 * (-0.5 + 7j))], 300, 3)
    for hop in (1, 2, 5):
        spectrum = KoopSTD(window=30, hop=hop, rank=4, num_modes=None, dt=0.01).spectrum(x)
        np.testing.assert_allclose(sorted_values(spectrum.eigenvalues), [-0.5 - 7j, -0.5 + 7j], atol=1e-5)


def test_the_modes_kept_are_those_of_smallest_residual_not_of_largest_modulus() -> None:
    # A clean decaying rotation beside random walks, whose modes last longer and have larger residuals.
    x = linear_signal([0.995 * np.exp(0.3j)], 400, 2)
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal((400, 6)).cumsum(0) * 0.05)
    everything = KoopSTD(window=8, hop=4, rank=8, num_modes=None).spectrum(torch.cat([x, noise], 1))
    kept = KoopSTD(window=8, hop=4, rank=8, num_modes=2).spectrum(torch.cat([x, noise], 1))
    assert (everything.residuals.diff() >= 0).all()
    torch.testing.assert_close(kept.residuals, everything.residuals[:2])
    assert everything.eigenvalues[2:].abs().max() > everything.eigenvalues[:2].abs().min()
    expected = (0.995 * np.exp(0.3j)) ** 4
    np.testing.assert_allclose(sorted_values(kept.eigenvalues), sorted_values([expected, expected.conj()]), atol=0.02)


def test_half_of_a_conjugate_pair_is_the_half_of_positive_frequency() -> None:
    for seed in range(6):
        x = linear_signal([0.99 * np.exp(0.3j), 0.9 * np.exp(1j)], 300, 5, seed=seed, noise=0.01)
        spectrum = KoopSTD(window=12, hop=3, rank=4, num_modes=3).spectrum(x)
        values = spectrum.eigenvalues
        assert values[2].imag > 0
        assert not torch.isclose(values, values[2].conj()).any()


def test_rotating_scaling_and_offsetting_channels_leaves_the_spectrum() -> None:
    rng = np.random.default_rng(5)
    x = linear_signal([0.98, 0.99 * np.exp(0.5j)], 200, 4, noise=0.05)
    rotated = 7.0 * x @ torch.from_numpy(ortho_group.rvs(4, random_state=rng))
    settings = {"window": 10, "hop": 2, "rank": 5, "num_modes": None}
    assert koopstd_distance(x, rotated, **settings) < 1e-9
    assert koopstd_distance(x, x, **settings) == 0.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_koopstd_is_a_metric_of_trajectories(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (
        linear_signal([0.95 * np.exp(1j * rng.uniform(0, 3))], int(rng.integers(80, 150)), 3, seed=seed, noise=0.3)
        for _ in range(3)
    )
    assert koopstd_distance(a, a) == 0.0
    assert koopstd_distance(a, b) == pytest.approx(koopstd_distance(b, a), rel=1e-12)
    assert koopstd_distance(a, c) <= koopstd_distance(a, b) + koopstd_distance(b, c) + 1e-12


def test_the_matrix_is_the_distance_of_every_pair_whatever_the_shapes() -> None:
    rng = np.random.default_rng(6)
    shapes = [(90, 3), (90, 3), (120, 5), (90, 3), (120, 5), (70, 1)]
    trajectories = [torch.from_numpy(rng.standard_normal(shape).cumsum(0)) for shape in shapes]
    matrix = koopstd_distances(trajectories, rank=6, order=2)
    for i, left in enumerate(trajectories):
        for j, right in enumerate(trajectories):
            assert matrix[i, j].item() == pytest.approx(koopstd_distance(left, right, rank=6, order=2), abs=1e-8)


def test_what_koopstd_cannot_do_is_refused_in_a_sentence() -> None:
    x = torch.randn(60, 3)
    with pytest.raises(DataError, match="need 12 states, got 11"):
        koopstd_distance(x[:11], x)
    with pytest.raises(DataError, match="every residual is zero"):
        koopstd_distance(x[:40], x)
    with pytest.raises(DataError, match="NaN or Inf"):
        koopstd_distance(x.index_fill(0, torch.tensor([3]), math.nan), x)
    with pytest.raises(DataError, match=r"must be \(T, H\)"):
        koopstd_distance(x[None], x)
    for setting in ({"window": 0}, {"hop": 0}, {"rank": 0}, {"num_modes": 0}, {"ridge": -1.0}, {"dt": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            koopstd_distance(x, x, **setting)
    with pytest.raises(ConfigError, match="taper"):
        koopstd_distance(x, x, taper="kaiser")


# --- dynamical similarity analysis -----------------------------------------------------------------------------------


def test_delays_recover_a_spectrum_from_one_channel() -> None:
    own = [0.99, 0.97 * np.exp(0.6j)]
    spectrum = delay_spectrum(linear_signal(own, 150, 1), delays=12, rank=3)
    np.testing.assert_allclose(sorted_values(spectrum), sorted_values([*own, np.conj(own[1])]), atol=1e-6)


def test_the_operator_has_the_spectrum_and_turns_with_nothing_else() -> None:
    x = linear_signal([0.99, 0.97 * np.exp(0.6j)], 150, 3, noise=0.02)
    operator = delay_operator(x, delays=5, rank=4)
    found = np.linalg.eigvals(operator.numpy())
    np.testing.assert_allclose(sorted_values(found), sorted_values(delay_spectrum(x, delays=5, rank=4)), atol=1e-7)
    turned = delay_operator(3.0 * x @ torch.from_numpy(ortho_group.rvs(3, random_state=0)), delays=5, rank=4)
    assert vector_field_distance(operator, turned, score="euclidean").item() < 1e-7
    with pytest.raises(DataError, match="lower the rank or the delays"):
        delay_operator(x[:9], delays=5, rank=4)


@pytest.mark.parametrize("score", ["angular", "euclidean"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_rotated_vector_field_is_found_again_reflections_included(score, n: int) -> None:
    rng = np.random.default_rng(n)
    matrices = rng.standard_normal((6, n, n))
    turns = ortho_group.rvs(n, size=6, random_state=rng).reshape(6, n, n) if n > 1 else np.ones((6, 1, 1))
    turned = turns @ matrices @ turns.transpose(0, 2, 1)
    distances = vector_field_distance(torch.from_numpy(matrices), torch.from_numpy(turned), score=score)
    assert distances.max() < 1e-7


def test_distance_of_two_rotations_and_of_symmetric_matrices_is_that_worked_by_hand() -> None:
    # The trace and the determinant of 2 x 2 rotations cannot be turned away: |A - B|^2 = 2 |e^ia - e^ib|^2.
    a, b = 0.3, 1.1
    turns = [torch.from_numpy(expm(np.array([[0, -angle], [angle, 0]]))) for angle in (a, b)]
    expected = math.sqrt(2) * abs(np.exp(1j * a) - np.exp(1j * b))
    assert vector_field_distance(*turns, score="euclidean").item() == pytest.approx(expected, rel=1e-10)
    # The reflection that reverses a rotation costs nothing.
    assert vector_field_distance(turns[0], turns[0].T, score="euclidean").item() < 1e-7
    # Symmetric matrices are closest with their eigenvalues in the same order (Hoffman and Wielandt 1953).
    rng = np.random.default_rng(1)
    pair = [(m + m.T) / 2 for m in rng.standard_normal((2, 4, 4))]
    spectra = [np.linalg.eigvalsh(m) for m in pair]
    found = vector_field_distance(*(torch.from_numpy(m) for m in pair), score="euclidean").item()
    assert found == pytest.approx(np.linalg.norm(spectra[0] - spectra[1]), rel=1e-8)


def test_no_orthogonal_matrix_of_many_does_better_than_the_minimum_found() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 3, 3))
    turns = ortho_group.rvs(3, size=100_000, random_state=rng)
    best = np.linalg.norm(a - turns @ b @ turns.transpose(0, 2, 1), axis=(1, 2)).min()
    found = vector_field_distance(torch.from_numpy(a), torch.from_numpy(b), score="euclidean").item()
    assert best - 0.05 < found <= best


@pytest.mark.parametrize("score", ["angular", "euclidean"])
def test_procrustes_over_vector_fields_is_a_metric(score) -> None:
    rng = np.random.default_rng(7)
    operators = torch.from_numpy(rng.standard_normal((8, 3, 3)))
    matrix = vector_field_distance(operators[:, None], operators[None], score=score)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-9)
    assert matrix.diagonal().max() < 1e-7
    assert (matrix + 1e3 * torch.eye(8)).min() > 0.1
    assert (matrix[:, None, :] <= matrix[:, :, None] + matrix[None, :, :] + 1e-9).all()
    larger = torch.from_numpy(rng.standard_normal((8, 5, 5)))  # symmetric even where few starts miss the minimum
    few = vector_field_distance(larger[:, None], larger[None], score=score, num_starts=2)
    torch.testing.assert_close(few, few.T, rtol=1e-6, atol=1e-6)
    assert few.diagonal().max() > 0.1


def test_operators_that_cannot_be_compared_are_refused_in_a_sentence() -> None:
    with pytest.raises(DataError, match="one rank"):
        vector_field_distance(torch.eye(2), torch.eye(3))
    with pytest.raises(DataError, match="all zero"):
        vector_field_distance(torch.eye(2), torch.zeros(2, 2))
    with pytest.raises(DataError, match="NaN or Inf"):
        vector_field_distance(torch.eye(2), torch.full((2, 2), math.nan))
    with pytest.raises(ConfigError, match="score"):
        vector_field_distance(torch.eye(2), torch.eye(2), score="cosine")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="even number"):
        vector_field_distance(torch.eye(2), torch.eye(2), num_starts=3)


# --- Lorenz systems --------------------------------------------------------------------------------------------------


def benchmark():
    """benchmarks/similarity.py, whose clips the tables of the documentation are measured on."""
    path = Path(__file__).parents[3] / "benchmarks" / "similarity.py"
    spec = importlib.util.spec_from_file_location("similarity_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def separation(distances: torch.Tensor, labels: torch.Tensor) -> float:
    return float(silhouette_score(distances.numpy(), labels.numpy(), metric="precomputed"))


def delay_distances(clips: torch.Tensor, order: float) -> torch.Tensor:
    return spectral_wasserstein_matrix([delay_spectrum(clip, delays=70, rank=6) for clip in clips], order=order)


@pytest.mark.slow
def test_lorenz_systems_are_told_apart_by_their_spectra() -> None:
    clips, labels = benchmark().lorenz_clips((152, 220, 75), 6, end=90.0, burn_in=40.0)
    assert separation(koopstd_distances(clips, window=100, hop=5, rank=6, num_modes=None), labels) > 0.8
    assert separation(delay_distances(clips, 1.0), labels) > 0.95
    operators = torch.stack([delay_operator(clip, delays=70, rank=4) for clip in clips[::2]])
    distances = vector_field_distance(operators[:, None], operators[None], num_starts=16)
    assert separation(distances.fill_diagonal_(0.0), labels[::2]) > 0.8


@pytest.mark.slow
def test_the_hundred_clips_of_the_paper_separate_as_the_documentation_says() -> None:
    module = benchmark()
    clips, labels = module.lorenz_clips()
    assert separation(koopstd_distances(clips, window=100, hop=5, rank=6, num_modes=None), labels) >= 0.80
    delays = delay_distances(clips, 2.0)
    assert separation(delays, labels) > 0.95
    assert separation(delays.square(), labels) >= 0.99  # as DSA scores it
    classical = {"linear CKA": 0.392, "mean canonical correlation": 0.470, "Procrustes": 0.501}
    for name, expected in classical.items():
        assert separation(module.MEASURES[name](clips).fill_diagonal_(0.0), labels) == pytest.approx(expected, abs=0.02)


def test_spectra_of_unequal_sizes_are_compared_by_copies_or_by_a_plan(monkeypatch) -> None:
    monkeypatch.setattr(distances, "MAX_COMMON_SIZE", 16)
    points = torch.arange(17, dtype=torch.float64)
    # Of one point to many: the mean distance.
    assert spectral_wasserstein(torch.zeros(1), points[:16]).item() == pytest.approx(points[:16].mean().item())
    assert spectral_wasserstein(torch.zeros(1), points).item() == pytest.approx(points.mean().item())
