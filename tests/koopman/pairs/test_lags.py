"""Pairs at a lag and sums over windows, against loops over time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dmd
from relax_rl.koopman.pairs.lags import lagged_snapshots, lagged_statistics
from relax_rl.koopman.pairs.snapshots import gram_statistics, snapshot_pairs


def pairs_at(snapshots: torch.Tensor, pairs: torch.Tensor) -> set[tuple[float, float]]:
    """What is paired, by the first feature of each snapshot."""
    return {(float(snapshots[t, 0]), float(snapshots[t + 1, 0])) for t in pairs.nonzero().flatten().tolist()}


@settings(max_examples=60, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=6, max_size=20), lag=st.integers(1, 5))
def test_pairs_at_a_lag_are_those_of_a_loop(mask: list[bool], lag: int) -> None:
    valid = torch.tensor(mask)
    clock = torch.arange(len(mask), dtype=torch.float64)[:, None]
    found = pairs_at(*lagged_snapshots(clock, snapshot_pairs(valid), lag))
    assert found == {(float(t), float(t + lag)) for t in range(len(mask) - lag) if all(mask[t : t + lag + 1])}


def test_no_lagged_pair_joins_two_trajectories_or_two_rows_of_a_batch() -> None:
    first, second = torch.arange(5.0)[:, None], torch.arange(10.0, 14.0)[:, None]
    assert pairs_at(*lagged_snapshots([first, second], None, 3)) == {(0.0, 3.0), (1.0, 4.0), (10.0, 13.0)}
    batch = torch.stack([torch.arange(5.0), torch.arange(20.0, 25.0)])[..., None]
    snapshots, pairs = lagged_snapshots(batch, None, 2)
    assert [pairs_at(snapshots[row], pairs[row]) for row in (0, 1)] == [
        {(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)},
        {(20.0, 22.0), (21.0, 23.0), (22.0, 24.0)},
    ]


def test_eigenvalues_at_a_lag_are_powers() -> None:
    matrix = torch.diag(torch.tensor([0.9, -0.5, 0.3], dtype=torch.float64))
    states = [torch.ones(3, dtype=torch.float64)]
    for _ in range(20):
        states.append(states[-1] @ matrix)
    fitted = dmd(*lagged_snapshots(torch.stack(states), None, 3))
    torch.testing.assert_close(fitted.eigenvalues.real, torch.tensor([0.9**3, -(0.5**3), 0.3**3]).double())


@settings(max_examples=30, deadline=None)
@given(
    mask=st.lists(st.booleans(), min_size=1, max_size=16) | st.integers(1, 16).map(lambda size: [True] * size),
    window=st.integers(2, 4),
    is_complex=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sums_over_windows_are_those_of_a_loop(mask: list[bool], window: int, is_complex: bool, seed: int) -> None:
    dtype = torch.complex128 if is_complex else torch.float64
    states = torch.randn((len(mask), 3), generator=torch.Generator().manual_seed(seed), dtype=dtype)
    starts = [t for t in range(len(mask) - window + 1) if all(mask[t : t + window])]
    expected = torch.zeros((window, window, 3, 3), dtype=dtype)
    for t in starts:
        for i in range(window):
            for j in range(window):
                expected[i, j] += torch.outer(states[t + i].conj(), states[t + j])
    states[~torch.tensor(mask)] = torch.nan
    found = lagged_statistics(states, snapshot_pairs(torch.tensor(mask)), window)
    torch.testing.assert_close(found.blocks, expected, atol=1e-12, rtol=1e-12)
    assert int(found.num_windows) == len(starts)
    torch.testing.assert_close(
        found.between([0], range(window)), torch.cat(list(expected[0]), -1), atol=1e-12, rtol=1e-12
    )


def test_a_window_of_two_gives_the_statistics_of_pairs_and_a_larger_one_those_at_a_lag() -> None:
    batch = torch.randn((2, 9, 3), generator=torch.Generator().manual_seed(1))
    pairs = torch.ones((2, 8), dtype=torch.bool)
    pairs[1, 4] = False
    plain, windows = gram_statistics(batch, pairs), lagged_statistics(batch, pairs, 2).pairs()
    torch.testing.assert_close((windows.gram, windows.cross, windows.future), (plain.gram, plain.cross, plain.future))
    assert windows.num_pairs.tolist() == plain.num_pairs.tolist() == [8, 7]
    lagged = lagged_statistics(batch[0], pairs[0], 3).pairs(0, 2)
    x, y = batch[0, :-2].double(), batch[0, 2:].double()
    torch.testing.assert_close((lagged.gram, lagged.cross, lagged.future), (x.T @ x, x.T @ y, y.T @ y))


def test_pieces_that_overlap_add_up_and_change_basis() -> None:
    states = torch.randn((12, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pairs = torch.ones(11, dtype=torch.bool)
    whole = lagged_statistics(states, pairs, 3)
    pieces = lagged_statistics(states[:7], pairs[:6], 3) + lagged_statistics(states[5:], pairs[5:], 3)
    torch.testing.assert_close(pieces.blocks, whole.blocks)
    assert int(pieces.num_windows) == int(whole.num_windows) == 10
    basis = torch.randn((3, 2), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(whole.changed_basis(basis).blocks, lagged_statistics(states @ basis, pairs, 3).blocks)


def test_the_gradient_of_the_sums() -> None:
    states = torch.randn((2, 6, 2), generator=torch.Generator().manual_seed(4), dtype=torch.float64).requires_grad_()
    pairs = torch.ones((2, 5), dtype=torch.bool)
    pairs[0, 2] = False
    assert torch.autograd.gradcheck(lambda values: lagged_statistics(values, pairs, 3).blocks, (states,))


def test_what_cannot_be_paired_is_refused() -> None:
    states = torch.ones((4, 2))
    with pytest.raises(ConfigError, match="lag must be at least 1"):
        lagged_snapshots(states, None, 0)
    with pytest.raises(DataError, match="A lag of 4 needs trajectories of 5 snapshots or more, got 4"):
        lagged_snapshots(states, None, 4)
    with pytest.raises(ConfigError, match="at least 2 snapshots"):
        lagged_statistics(states, torch.ones(3, dtype=torch.bool), 1)
    sums = lagged_statistics(states, torch.ones(3, dtype=torch.bool), 3)
    for first, lag in ((0, 3), (-1, 1), (0, 0), (2, 1)):
        with pytest.raises(ConfigError, match="holds no pair"):
            sums.pairs(first, lag)
    with pytest.raises(DataError, match="cannot be added"):
        _ = sums + lagged_statistics(states, torch.ones(3, dtype=torch.bool), 2)
    assert int(lagged_statistics(states, torch.ones(3, dtype=torch.bool), 5).num_windows) == 0
