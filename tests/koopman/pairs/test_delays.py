"""Delay embedding makes a state of what one observation does not tell, and never joins two trajectories."""

import numpy as np
import pytest
import torch
from scipy.linalg import hankel

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.pairs.delays import delay_embedding
from relax_rl.koopman.pairs.snapshots import pack_trajectories, snapshot_pairs
from relax_rl.koopman.spectra.dmd import dmd
from relax_rl.koopman.spectra.kernels import LinearKernel, kernel_edmd

VALUES = np.array([0.98 * np.exp(0.4j), 0.98 * np.exp(-0.4j), 0.9 * np.exp(1.1j), 0.9 * np.exp(-1.1j), 0.7])


def scalar_signal(T: int, phase: float = 0.0) -> torch.Tensor:
    amplitudes = np.array([np.exp(1j * phase), np.exp(-1j * phase), 0.5, 0.5, 1.0])
    return torch.from_numpy((VALUES[None] ** np.arange(T)[:, None] @ amplitudes).real[:, None])


def assert_recovers(values) -> None:
    np.testing.assert_allclose(np.abs(np.asarray(values)[:, None] - VALUES).min(0), 0, atol=1e-8)


def test_rows_are_those_of_the_hankel_matrix() -> None:
    states = torch.arange(8.0)[:, None]
    embedded, pairs = delay_embedding(states, None, 3)
    np.testing.assert_array_equal(embedded, hankel(np.arange(6), np.arange(5, 8)))
    assert pairs.shape == (5,)
    assert pairs.all()
    wide, _ = delay_embedding(torch.arange(12.0).view(6, 2), None, 2)
    assert wide[1].tolist() == [2, 3, 4, 5]


def test_no_window_crosses_a_hole_or_two_trajectories() -> None:
    mask = torch.tensor([[True] * 5 + [False] + [True] * 4])
    _, pairs = delay_embedding(torch.zeros(1, 10, 1), snapshot_pairs(mask), 3)
    # Pair t needs states t .. t+3: 0 and 1 before the hole at 5, 6 behind it.
    assert pairs.tolist() == [[True, True, False, False, False, False, True]]
    _, pairs = delay_embedding(*pack_trajectories([torch.zeros(4, 1), torch.zeros(2, 1), torch.zeros(5, 1)]), 2)
    assert pairs.nonzero().flatten().tolist() == [0, 1, 6, 7, 8]


def test_one_observation_and_its_past_make_a_state() -> None:
    assert_recovers(dmd(*delay_embedding(scalar_signal(40), None, 5)).eigenvalues)


@pytest.mark.parametrize("variant", ["forward_backward", "total_least_squares"])
def test_composes_with_variants_trajectories_and_kernels(variant) -> None:
    parts = [scalar_signal(15), scalar_signal(9, 1.0), scalar_signal(20, 2.0)]
    embedded = delay_embedding(*pack_trajectories(parts), 6)
    assert_recovers(dmd(*embedded, rank=5, variant=variant).eigenvalues)
    assert_recovers(kernel_edmd(*embedded, kernel=LinearKernel(), rank=5).modes.eigenvalues)
    assert int(embedded[1].sum()) == 9 + 3 + 14


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="delays"):
        delay_embedding(torch.zeros(4, 1), None, 0)
    with pytest.raises(DataError, match="5 states"):
        delay_embedding(torch.zeros(4, 1), None, 4)
