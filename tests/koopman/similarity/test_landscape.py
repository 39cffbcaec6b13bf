"""Embedding, clusters and silhouettes: against scikit-learn and scipy, and models whose dynamics differ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.similarity.koopstd import KoopSTD, koopstd_distances
from relax_rl.koopman.similarity.landscape import agglomerate, classical_scaling, dynamical_landscape, silhouette


def euclidean(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(squareform(pdist(points)))


def test_scaling_recovers_the_distances_of_points_in_the_plane() -> None:
    points = np.random.default_rng(0).standard_normal((12, 2)) * [3.0, 1.0]
    scaling = classical_scaling(euclidean(points))
    torch.testing.assert_close(euclidean(scaling.coordinates.numpy()), euclidean(points), rtol=1e-9, atol=1e-9)
    assert scaling.explained == pytest.approx(1.0, rel=1e-9)
    assert (scaling.coordinates.gather(0, scaling.coordinates.abs().argmax(0, keepdim=True)) > 0).all()


def test_scaling_says_what_two_dimensions_cannot_hold() -> None:
    # The corners of a regular simplex in 4 dimensions: all four eigenvalues are equal.
    scaling = classical_scaling(1.0 - torch.eye(5), dimensions=2)
    assert scaling.explained == pytest.approx(0.5, rel=1e-9)
    assert classical_scaling(1.0 - torch.eye(2), dimensions=3).coordinates[:, 1:].abs().max() < 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 25), num_clusters=st.integers(1, 6))
def test_clusters_are_those_of_average_linkage(seed: int, size: int, num_clusters: int) -> None:
    num_clusters = min(num_clusters, size)
    points = np.random.default_rng(seed).standard_normal((size, 3))
    found = agglomerate(euclidean(points), num_clusters).numpy()
    expected = fcluster(linkage(points, "average"), num_clusters, "maxclust")
    assert adjusted_rand_score(expected, found) == pytest.approx(1.0)
    assert len(set(found)) == num_clusters
    firsts = [int(np.argmax(found == label)) for label in range(num_clusters)]
    assert firsts == sorted(firsts)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(4, 20), num_labels=st.integers(2, 3))
def test_silhouettes_are_those_of_scikit_learn(seed: int, size: int, num_labels: int) -> None:
    rng = np.random.default_rng(seed)
    distances = euclidean(rng.standard_normal((size, 2)))
    labels = np.concatenate([np.arange(num_labels), rng.integers(0, num_labels, size - num_labels)])
    expected = silhouette_score(distances.numpy(), labels, metric="precomputed")
    assert float(silhouette(distances, torch.from_numpy(labels))) == pytest.approx(expected, abs=1e-12)


def random_walks(modulus: float, seed: int, lengths: list[int], H: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    walks = []
    for length in lengths:
        state, rows = rng.standard_normal(H), []
        for _ in range(length):
            state = modulus * state + rng.standard_normal(H)
            rows.append(state)
        walks.append(torch.from_numpy(np.stack(rows)))
    return walks


def test_models_of_different_dynamics_lie_apart_whatever_their_width() -> None:
    lengths = [300, 260, 320, 280]
    trajectories = {
        "slow": random_walks(0.98, 0, lengths, H=4),
        "slow too": random_walks(0.98, 1, lengths, H=6),
        "fast": random_walks(0.3, 2, lengths, H=4),
    }
    method = KoopSTD(window=4, hop=2, rank=4, num_modes=4)
    landscape = dynamical_landscape(trajectories, method=method, num_clusters=2)
    assert landscape.models == ("slow", "slow too", "fast")
    assert landscape.clusters.tolist() == [0] * 8 + [1] * 4
    assert landscape.cluster_silhouette > 0.7 > landscape.model_silhouette
    between = landscape.between_models
    assert between[0, 2] > 3 * between[0, 1]
    torch.testing.assert_close(between, between.T)
    assert torch.equal(between.diagonal(), torch.zeros(3, dtype=torch.float64))
    flat = [x for model in trajectories.values() for x in model]
    expected = koopstd_distances(flat, window=4, hop=2, rank=4, num_modes=4)
    torch.testing.assert_close(landscape.distances, expected)
    assert between[0, 2].item() == pytest.approx(np.mean([expected[i, 8 + i] for i in range(4)]))


def test_what_is_no_matrix_of_distances_is_refused_in_a_sentence() -> None:
    for matrix in (torch.zeros(2, 3), torch.eye(3), torch.tensor([[0.0, 1.0], [2.0, 0.0]]), -1.0 + torch.eye(2)):
        with pytest.raises(DataError, match="istances"):
            classical_scaling(matrix)
    plain = 1.0 - torch.eye(3)
    with pytest.raises(ConfigError, match="num_clusters"):
        agglomerate(plain, 4)
    with pytest.raises(ConfigError, match="dimensions"):
        classical_scaling(plain, 0)
    with pytest.raises(DataError, match="at least two labels"):
        silhouette(plain, torch.zeros(3))
    with pytest.raises(DataError, match="one label a row"):
        silhouette(plain, torch.zeros(2))
    with pytest.raises(DataError, match=r"\{'a': 2, 'b': 1\}"):
        dynamical_landscape({"a": [torch.randn(90, 3)] * 2, "b": [torch.randn(90, 3)]})
