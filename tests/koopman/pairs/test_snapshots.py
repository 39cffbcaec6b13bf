"""Gram statistics: against explicit sums in numpy, over every way of cutting the same pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_rl.errors import DataError
from relax_rl.koopman.pairs.snapshots import (
    GramStatistics,
    exclude_nonfinite,
    gram_from_trajectories,
    gram_statistics,
    snapshot_pairs,
)


def explicit_sums(lifted: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    F = lifted.shape[-1]
    gram, cross, future, count = np.zeros((F, F)), np.zeros((F, F)), np.zeros((F, F)), 0
    for t in range(len(lifted) - 1):
        if mask[t] and mask[t + 1]:
            gram += np.outer(lifted[t], lifted[t])
            cross += np.outer(lifted[t], lifted[t + 1])
            future += np.outer(lifted[t + 1], lifted[t + 1])
            count += 1
    return gram, cross, future, count


def assert_same(left: GramStatistics, right: GramStatistics) -> None:
    for name in ("gram", "cross", "future", "num_pairs"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), T=st.integers(1, 12), chunk_size=st.one_of(st.none(), st.integers(1, 13)))
def test_statistics_are_the_explicit_sums_for_any_mask_and_chunk(seed: int, T: int, chunk_size: int | None) -> None:
    rng = np.random.default_rng(seed)
    lifted, mask = rng.standard_normal((2, T, 3)), rng.random((2, T)) < 0.7
    pairs = snapshot_pairs(torch.from_numpy(mask))
    statistics = gram_statistics(torch.from_numpy(lifted), pairs, chunk_size=chunk_size)
    for row in range(2):
        gram, cross, future, count = explicit_sums(lifted[row], mask[row])
        np.testing.assert_allclose(statistics.gram[row], gram, atol=1e-12)
        np.testing.assert_allclose(statistics.cross[row], cross, atol=1e-12)
        np.testing.assert_allclose(statistics.future[row], future, atol=1e-12)
        assert statistics.num_pairs[row] == count


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_gradient_of_the_sums_is_that_of_autograd(chunk_size: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    lifted = torch.randn((2, 9, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn((3, 2, 3, 3), generator=generator, dtype=torch.float64)
    pairs = torch.rand((2, 8), generator=generator) < 0.7
    sums = gram_statistics(lifted, pairs, chunk_size=chunk_size)
    (gradient,) = torch.autograd.grad((torch.stack([sums.gram, sums.cross, sums.future]) * weights).sum(), lifted)
    x, y = lifted[:, :-1] * pairs[..., None], lifted[:, 1:] * pairs[..., None]
    expected = (torch.stack([x.mT @ x, x.mT @ y, y.mT @ y]) * weights).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, lifted)[0], rtol=1e-12, atol=1e-12)


def test_sums_without_the_future_say_so() -> None:
    lifted, pairs = torch.randn((1, 9, 3), generator=torch.Generator().manual_seed(4)), torch.ones(1, 8) > 0
    short, whole = gram_statistics(lifted, pairs, needs_future=False), gram_statistics(lifted, pairs)
    assert short.future.isnan().all()
    assert torch.equal(short.cross, whole.cross)


def test_a_pair_never_crosses_a_hole() -> None:
    mask = torch.tensor([[True, True, False, True, True, True]])
    assert snapshot_pairs(mask).tolist() == [[True, False, False, True, True]]


def test_ragged_list_equals_sum_of_its_trajectories() -> None:
    generator = torch.Generator().manual_seed(0)
    trajectories = [torch.randn((n, 3), generator=generator, dtype=torch.float64) for n in (5, 1, 0, 9, 2)]
    whole = gram_from_trajectories(trajectories, lambda x: x)
    total = gram_from_trajectories(trajectories[:3], lambda x: x) + gram_from_trajectories(
        trajectories[3:], lambda x: x
    )
    assert_same(whole, total)
    assert whole.num_pairs == 4 + 0 + 0 + 8 + 1


def test_shards_that_overlap_by_one_snapshot_add_up_to_the_whole() -> None:
    lifted = torch.randn((2, 20, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.ones((2, 20), dtype=torch.bool)
    mask[1, 15:] = False
    pairs = snapshot_pairs(mask)
    shards = gram_statistics(lifted[:, :8], pairs[:, :7]) + gram_statistics(lifted[:, 7:], pairs[:, 7:])
    assert_same(shards, gram_statistics(lifted, pairs))


def test_bfloat16_is_summed_in_float64() -> None:
    lifted = torch.rand((1, 600, 4), generator=torch.Generator().manual_seed(2)).bfloat16()
    pairs = torch.ones((1, 599), dtype=torch.bool)
    statistics = gram_statistics(lifted, pairs)
    x = lifted[0, :-1].double()
    torch.testing.assert_close(statistics.gram[0], x.T @ x, rtol=1e-14, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_trajectories_are_taken_out_and_poison_nothing(bad: float) -> None:
    states = torch.ones((3, 4, 2))
    states[0, 1, 0] = bad
    states[1, 3, 1] = bad  # padding: must not count
    states.requires_grad_()
    mask = torch.ones((3, 4), dtype=torch.bool)
    mask[1, 3] = False
    clean, kept, is_nonfinite = exclude_nonfinite(states, mask)
    assert is_nonfinite.tolist() == [True, False, False]
    assert not kept[0].any()
    assert torch.isfinite(clean).all()
    (gradient,) = torch.autograd.grad((clean**2).sum(), states)
    assert torch.isfinite(gradient).all()
    assert gradient[0].eq(0).all()
    assert gradient[2].eq(2).all()


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="bool"):
        snapshot_pairs(torch.ones(2, 3))
    with pytest.raises(DataError, match="same F"):
        gram_from_trajectories([torch.ones(3, 2), torch.ones(3, 4)], lambda x: x)
    with pytest.raises(DataError, match="no trajectory"):
        gram_from_trajectories([], lambda x: x)
    with pytest.raises(DataError, match="cannot be added"):
        _ = gram_from_trajectories([torch.ones(3, 2)], lambda x: x) + gram_from_trajectories(
            [torch.ones(3, 4)], lambda x: x
        )


def test_the_gradient_of_single_precision_is_that_of_double_rounded_once() -> None:
    generator = torch.Generator().manual_seed(0)
    double = torch.rand(2, 200, 5, generator=generator).double().requires_grad_()
    single = double.detach().float().requires_grad_()
    pairs = torch.rand(2, 199, generator=generator) < 0.8
    for lifted in (double, single):
        statistics = gram_statistics(lifted, pairs)
        (statistics.gram.square().sum() + statistics.cross.sum() + statistics.future.square().sum()).backward()
    assert single.grad is not None
    assert double.grad is not None
    assert torch.equal(single.grad, double.grad.float())


def test_what_was_not_summed_has_no_gradient() -> None:
    lifted = torch.rand(1, 9, 2, dtype=torch.float64, requires_grad=True)
    statistics = gram_statistics(lifted, torch.ones(1, 8, dtype=torch.bool), needs_future=False)
    assert statistics.future.isnan().all()
    assert not statistics.future.requires_grad
    assert statistics.gram.requires_grad
