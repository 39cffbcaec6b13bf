"""Streamed statistics: any cut and any order of merging give the same, to 1e-12 of the size of the observables."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.koopman.pairs.snapshots import GramStatistics
from relax_rl.koopman.pairs.streaming import GramStream
from relax_rl.koopman.spectra.dmd import dmd, dmd_from_statistics


def explicit(x: np.ndarray, y: np.ndarray) -> GramStatistics:
    first, second = torch.from_numpy(x).double(), torch.from_numpy(y).double()
    return GramStatistics(first.T @ first, first.T @ second, second.T @ second, torch.tensor(len(x)))


def assert_same(left: GramStatistics, right: GramStatistics, tolerance: float = 1e-12) -> None:
    assert int(left.num_pairs) == int(right.num_pairs)
    sizes = {"x": right.gram.diagonal().sqrt(), "y": right.future.diagonal().sqrt()}
    for name, rows, columns in (("gram", "x", "x"), ("cross", "x", "y"), ("future", "y", "y")):
        scale = (sizes[rows][:, None] * sizes[columns]).clamp_min(1e-300)
        error = (getattr(left, name) - getattr(right, name)).abs() / scale
        assert error.max() <= tolerance, name


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 30), max_size=8),
    num_streams=st.integers(1, 4),
    order=st.permutations(range(4)),
)
def test_any_cut_and_any_merge_order_give_the_same(seed, lengths, cuts, num_streams, order) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-6, 6, 4)
    trajectories = [(rng.standard_normal((length, 4)) * scale).astype(np.float32) for length in lengths]
    streams = [GramStream() for _ in range(num_streams)]
    for index, trajectory in enumerate(trajectories):
        stream = streams[index % num_streams]
        edges = sorted({cut for cut in cuts if cut < len(trajectory)})
        for place, piece in enumerate(np.split(trajectory, edges)):
            stream.update(torch.from_numpy(piece), is_continuation=place > 0)
    shuffled = [streams[place] for place in order if place < num_streams]
    total = shuffled[0]
    for stream in shuffled[1:]:
        total = total.merge(stream)
    x = np.concatenate([t[:-1] for t in trajectories])
    y = np.concatenate([t[1:] for t in trajectories])
    assert_same(total.statistics(), explicit(x, y))


def test_a_constant_observable_in_ten_thousand_pieces() -> None:
    # Plain float64 sums are 1.6e-13 off here: the same rounding at every addition, always to the same side.
    piece = GramStream().update(torch.full((2, 1), 0.1, dtype=torch.float64).sqrt())
    one = float(piece.statistics().gram)
    stream, plain = GramStream(), 0.0
    for _ in range(50):
        part = GramStream()
        for _ in range(200):
            part.merge(piece)
            plain += one
        stream.merge(part)
    assert abs(plain / (one * 10_000) - 1) > 1e-13
    assert float(stream.statistics().gram) == one * 10_000
    assert stream.num_pairs == 10_000


def test_batches_masks_and_a_dictionary() -> None:
    rng = np.random.default_rng(1)
    states = torch.from_numpy(rng.standard_normal((3, 10, 4)))
    mask = torch.from_numpy(rng.random((3, 10)) < 0.8)

    def lift(s: torch.Tensor) -> torch.Tensor:
        return torch.cat([s, s.square()], -1)

    spoiled = torch.where(mask[..., None], states, torch.nan)
    stream = GramStream(lift).update(spoiled[:, :4], mask[:, :4])
    stream.update(spoiled[:, 4:4], mask[:, 4:4], is_continuation=True)
    stream.update(spoiled[:, 4:], mask[:, 4:], is_continuation=True)
    keep = (mask[:, :-1] & mask[:, 1:]).numpy()
    lifted = lift(states).numpy()
    assert_same(stream.statistics(), explicit(lifted[:, :-1][keep], lifted[:, 1:][keep]))


def test_a_stream_gives_the_spectrum_of_the_whole() -> None:
    states = torch.from_numpy(np.random.default_rng(2).standard_normal((200, 5)).cumsum(0))
    stream = GramStream()
    for start in range(0, 200, 7):
        stream.update(states[start : start + 7], is_continuation=start > 0)
    streamed, whole = dmd_from_statistics(stream.statistics()), dmd(states)
    torch.testing.assert_close(streamed.eigenvalues.abs(), whole.eigenvalues.abs(), atol=1e-9, rtol=0)


def test_an_empty_trajectory_ends_the_one_before() -> None:
    stream = GramStream().update(torch.ones(3, 2)).update(torch.ones(0, 2))
    with pytest.raises(DataError, match="continue"):
        stream.update(torch.ones(3, 2), is_continuation=True)
    assert stream.num_pairs == 2


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="Nothing"):
        GramStream().statistics()
    with pytest.raises(DataError, match="continue"):
        GramStream().update(torch.ones(3, 2), is_continuation=True)
    stream = GramStream().update(torch.ones(3, 2))
    with pytest.raises(DataError, match="cannot continue"):
        stream.update(torch.ones(2, 3, 2), is_continuation=True)
    with pytest.raises(DataError, match="2 observables"):
        stream.update(torch.ones(3, 4))
    with pytest.raises(DataError, match="2 observables"):
        stream.merge(GramStream().update(torch.ones(3, 4)))
    with pytest.raises(DataError, match="NaN"):
        stream.update(torch.full((3, 2), torch.nan))
    with pytest.raises(DataError, match="mask"):
        stream.update(torch.ones(3, 2), torch.ones(4, dtype=torch.bool))
    assert stream.num_pairs == 2
