"""Classical similarities: their definitions in numpy and scipy, their invariances, and where they mean nothing."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group, spearmanr
from sklearn.cross_decomposition import CCA

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.similarity.representation import (
    canonical_correlation,
    linear_cka,
    procrustes_similarity,
    representational_similarity,
)

MEASURES = [linear_cka, canonical_correlation, procrustes_similarity, representational_similarity]


def states(seed: int, T: int = 60, H: int = 4, H_other: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, H)) @ rng.standard_normal((H, H)) + 5
    y = x[:, : min(H, H_other)] @ rng.standard_normal((min(H, H_other), H_other)) + rng.standard_normal((T, H_other))
    return x, y


def of(measure, x: np.ndarray, y: np.ndarray, **options) -> float:
    return measure(torch.from_numpy(x), torch.from_numpy(y), **options).item()


@pytest.mark.parametrize(("H", "H_other"), [(4, 3), (90, 70), (4, 200)])
def test_cka_and_procrustes_are_their_formulas_on_either_side(H: int, H_other: int) -> None:
    x, y = states(0, H=H, H_other=H_other)
    a, b = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    assert of(linear_cka, x, y) == pytest.approx(norm(a.T @ b) ** 2 / norm(a.T @ a) / norm(b.T @ b), rel=1e-9)
    nuclear = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    assert of(procrustes_similarity, x, y) == pytest.approx(nuclear / norm(a) / norm(b), rel=1e-7)


@pytest.mark.slow
def test_debiased_cka_is_zero_on_average_where_the_plain_one_is_near_one() -> None:
    rng = np.random.default_rng(1)
    pairs = [rng.standard_normal((2, 20, 400)) for _ in range(40)]
    assert np.mean([of(linear_cka, *pair) for pair in pairs]) > 0.9
    assert abs(np.mean([of(linear_cka, *pair, debiased=True) for pair in pairs])) < 0.02
    x, y = states(2, T=4000)
    assert of(linear_cka, x, y, debiased=True) == pytest.approx(of(linear_cka, x, y), abs=2e-3)
    assert of(linear_cka, x, x, debiased=True) == pytest.approx(1.0, rel=1e-12)


def test_canonical_correlations_are_those_of_scikit_learn() -> None:
    x, y = states(3, T=300)
    model = CCA(n_components=3, max_iter=5000, tol=1e-12).fit(x, y)
    u, v = model.transform(x, y)
    expected = np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)])
    assert of(canonical_correlation, x, y) == pytest.approx(expected, abs=1e-6)


def test_energy_leaves_out_the_small_directions() -> None:
    x, _ = states(4)
    rng = np.random.default_rng(5)
    noisy = np.concatenate([x, 1e-6 * rng.standard_normal((60, 2))], 1)
    other = np.concatenate([x, 1e-6 * rng.standard_normal((60, 2))], 1)
    assert of(canonical_correlation, noisy, other) < 0.9
    assert of(canonical_correlation, noisy, other, energy=1 - 1e-9) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "correlation"])
def test_representational_similarity_is_the_rank_correlation_of_scipy_ties_included(distance) -> None:
    x, y = states(6)
    if distance == "euclidean":
        x = np.round(x)  # equal distances share a rank
    centered = [a - a.mean(0) for a in (x, y)]
    expected = spearmanr(pdist(centered[0], distance), pdist(centered[1], distance)).statistic
    assert of(representational_similarity, x, y, distance=distance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_rotation_scale_and_offset_do_not_matter_and_batches_are_their_rows(measure) -> None:
    x, y = states(7)
    turn = ortho_group.rvs(4, random_state=0)
    value = of(measure, x, y)
    assert 0.0 < value < 1.0
    assert of(measure, 3 * x @ turn + 9, y) == pytest.approx(value, abs=1e-9)
    assert of(measure, x, 3 * x @ turn - 1) == pytest.approx(1.0, abs=1e-9)
    assert of(measure, y, x) == pytest.approx(value, abs=1e-9)
    shuffled = np.random.default_rng(8).permutation(60)
    assert of(measure, x[shuffled], y[shuffled]) == pytest.approx(value, abs=1e-9)
    batch = measure(torch.from_numpy(np.stack([x, x])), torch.from_numpy(np.stack([y, y[::-1].copy()])))
    assert batch[0].item() == pytest.approx(value, abs=1e-9)
    assert batch[1].item() == pytest.approx(of(measure, x, y[::-1].copy()), abs=1e-9)


def test_what_has_no_similarity_is_refused_in_a_sentence() -> None:
    x, y = (torch.from_numpy(a) for a in states(9))
    for measure in MEASURES:
        with pytest.raises(DataError, match="same tokens"):
            measure(x[:-1], y)
        with pytest.raises(DataError, match="all the same"):
            measure(x, torch.full((60, 2), 0.1))
        with pytest.raises(DataError, match="NaN or Inf"):
            measure(x, y.index_fill(0, torch.tensor([1]), float("nan")))
        with pytest.raises(DataError, match="floating"):
            measure(x.long(), y)
    with pytest.raises(DataError, match="correlate perfectly"):
        canonical_correlation(torch.randn(10, 9), torch.randn(10, 2))
    with pytest.raises(DataError, match="at least 4 tokens"):
        linear_cka(x[:3], y[:3], debiased=True)
    with pytest.raises(DataError, match="all equal"):
        representational_similarity(torch.eye(5), torch.eye(5))
    with pytest.raises(ConfigError, match="energy"):
        canonical_correlation(x, y, energy=0.0)
    with pytest.raises(ConfigError, match="distance"):
        representational_similarity(x, y, distance="cosine")  # pyright: ignore[reportArgumentType]


def test_a_token_whose_channels_are_all_equal_correlates_with_none() -> None:
    # Whole numbers with means of zero over the tokens, so that nothing is rounded.
    x = torch.tensor([[3, 1, -2, 6], [-1, 2, 4, -5], [2, 2, 2, 2], [-4, -5, -4, -3]], dtype=torch.float64)
    found = representational_similarity(x, x, distance="correlation")
    assert found.item() == pytest.approx(1.0)
