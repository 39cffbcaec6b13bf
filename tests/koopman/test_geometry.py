"""Shapes of trajectories: numbers worked by hand, numpy on single trajectories, masks, and gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.geometry import (
    effective_rank,
    effective_rank_growth,
    log_det_diversity,
    log_det_gains,
    stable_rank,
    trajectory_curvature,
)


def tensor(rows) -> torch.Tensor:
    return torch.as_tensor(np.asarray(rows), dtype=torch.float64)


def reference_effective_rank(states: np.ndarray) -> float:
    singular_values = np.linalg.svd(states - states.mean(0), compute_uv=False)
    shares = singular_values / singular_values.sum()
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def test_effective_rank_is_two_to_the_entropy_in_bits_of_the_singular_values() -> None:
    # Orthogonal columns of zero mean and lengths 6, 3, 3: shares 1/2, 1/4, 1/4, entropy 3/2 bits.
    columns = hadamard(4)[:, 1:] * np.array([3.0, 1.5, 1.5])
    assert effective_rank(tensor(columns)).item() == pytest.approx(2**1.5, rel=1e-12)
    assert effective_rank(tensor(columns + 7.0)).item() == pytest.approx(2**1.5, rel=1e-12)  # centred
    assert effective_rank(tensor(hadamard(4)), center=False).item() == pytest.approx(4.0, rel=1e-12)


def test_stable_rank_is_the_energy_over_that_of_the_first_direction() -> None:
    # Lengths 6, 3, 3: (36 + 9 + 9) / 36.
    columns = hadamard(4)[:, 1:] * np.array([3.0, 1.5, 1.5])
    assert stable_rank(tensor(columns)).item() == pytest.approx(1.5, rel=1e-12)
    assert stable_rank(tensor([[3.0, 4.0], [6.0, 8.0]])).item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_both_sides_of_the_gram_matrix_give_the_ranks_of_a_singular_value_decomposition(shape) -> None:
    states = np.random.default_rng(0).standard_normal(shape) * np.geomspace(1, 1e-4, shape[1])
    assert effective_rank(tensor(states)).item() == pytest.approx(reference_effective_rank(states), rel=1e-8)
    singular_values = np.linalg.svd(states, compute_uv=False)
    expected = (singular_values**2).sum() / singular_values[0] ** 2
    assert stable_rank(tensor(states)).item() == pytest.approx(expected, rel=1e-10)


def test_directions_that_are_rounding_add_nothing() -> None:
    rank_two = np.random.default_rng(1).standard_normal((200, 2)) @ np.random.default_rng(2).standard_normal((2, 300))
    expected = reference_effective_rank(rank_two)
    assert effective_rank(tensor(rank_two)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3])
def test_a_trajectory_that_stands_still_has_no_rank_no_growth_and_no_turn(value: float) -> None:
    states = torch.full((7, 3), value, dtype=torch.float64, requires_grad=True)
    growth = effective_rank_growth(states, stride=2)
    values = [effective_rank(states), growth.rank, growth.velocity, growth.acceleration, trajectory_curvature(states)]
    assert [v.item() for v in values] == [0.0] * 5
    (gradient,) = torch.autograd.grad(sum(values), states)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_growth_is_that_of_the_definition_read_aloud() -> None:
    rng = np.random.default_rng(3)
    lengths, stride, max_tokens = [95, 21, 20, 1, 40], 10, 60
    states = rng.standard_normal((len(lengths), 100, 12)).cumsum(1)
    mask = np.zeros((len(lengths), 100), dtype=bool)
    for row, length in enumerate(lengths):
        mask[row, rng.permutation(100)[:length]] = True  # holes are closed up
    growth = effective_rank_growth(tensor(states), torch.from_numpy(mask), stride=stride, max_tokens=max_tokens)
    for row, length in enumerate(lengths):
        valid = states[row, mask[row]]
        looked_at = valid[-max_tokens:]
        m = [reference_effective_rank(looked_at[: end + 1]) for end in range(stride, len(looked_at), stride)]
        d = [m[j] - np.mean(m[:j]) for j in range(1, len(m))]
        assert growth.num_prefixes[row] == len(m)
        assert growth.rank[row].item() == pytest.approx(reference_effective_rank(valid) if length > 1 else 0.0)
        assert growth.velocity[row].item() == pytest.approx(np.mean(d) if d else 0.0, abs=1e-8)
        assert growth.acceleration[row].item() == pytest.approx(np.mean(np.diff(d)) if len(d) > 1 else 0.0, abs=1e-8)


def test_growth_of_new_directions_is_a_number_worked_by_hand() -> None:
    # Beginnings of 2, 3 and 4 tokens of the corners of a simplex: their centred states have 1, 2 and 3 equal singular
    # values, so m = 1, 2, 3; d_2 = 1, d_3 = 3 - 3/2; velocity 5/4, acceleration 1/2.
    growth = effective_rank_growth(torch.eye(4, dtype=torch.float64), stride=1)
    assert growth.num_prefixes == 3
    assert growth.velocity.item() == pytest.approx(1.25, rel=1e-12)
    assert growth.acceleration.item() == pytest.approx(0.5, rel=1e-12)


def test_curvature_of_a_line_a_square_and_a_way_there_and_back() -> None:
    line = np.outer(np.arange(5.0) ** 2, [3.0, 4.0])
    square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    there_and_back = [[0, 0], [2, 1], [0, 0], [2, 1]]
    assert trajectory_curvature(tensor(line)).item() == 0.0
    assert trajectory_curvature(tensor(square)).item() == pytest.approx(math.pi / 2, rel=1e-14)
    assert trajectory_curvature(tensor(there_and_back)).item() == pytest.approx(math.pi, rel=1e-14)


def test_a_small_turn_is_exact_where_the_arc_cosine_is_not() -> None:
    angle = 1e-9  # cos(angle) rounds to 1
    states = tensor([[0, 0], [1, 0], [1 + math.cos(angle), math.sin(angle)]])
    assert trajectory_curvature(states).item() == pytest.approx(angle, rel=1e-6)


def test_turns_do_not_cross_a_hole_and_standing_still_is_no_turn() -> None:
    corner = tensor([[5, 7], [6, 7], [6, 8], [6, 9]])
    mask = torch.tensor([True, True, True, True])
    assert trajectory_curvature(corner, mask).item() == pytest.approx(math.pi / 4)
    mask[0] = False
    assert trajectory_curvature(corner, mask).item() == 0.0
    mask = torch.tensor([True, False, True, True])
    assert trajectory_curvature(corner, mask).item() == 0.0
    paused = tensor([[0, 0], [1, 0], [1, 0], [1, 1]])
    assert trajectory_curvature(paused).item() == 0.0


def test_diversity_of_equal_and_of_orthogonal_vectors() -> None:
    equal = tensor([[3.0, 4.0]] * 5)
    assert log_det_diversity(equal).item() == pytest.approx(math.log(6), rel=1e-12)
    orthogonal = torch.diag(torch.tensor([1.0, 10.0, 0.1]))
    assert log_det_diversity(orthogonal).item() == pytest.approx(3 * math.log(2), rel=1e-6)
    assert log_det_diversity(equal, unit=False, scale=0.5).item() == pytest.approx(math.log(1 + 0.5 * 125), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), N=st.integers(1, 7), H=st.integers(1, 9))
def test_a_gain_is_the_difference_that_leaving_the_vector_out_makes(seed: int, N: int, H: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, mask = tensor(rng.standard_normal((N, H))), torch.from_numpy(rng.random(N) < 0.7)
    gains = log_det_gains(vectors, mask, scale=2.0)
    whole = log_det_diversity(vectors, mask, scale=2.0)
    expected_whole = np.linalg.slogdet(np.eye(N) + 2 * gram_of_unit(vectors, mask))[1]
    assert whole.item() == pytest.approx(expected_whole, abs=1e-10)
    for i in range(N):
        without = mask.clone()
        without[i] = False
        expected = (whole - log_det_diversity(vectors, without, scale=2.0)).item()
        assert gains[i].item() == pytest.approx(expected, abs=1e-10)
        assert -1e-12 <= gains[i].item() <= math.log(3) + 1e-12


def gram_of_unit(vectors: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    members = vectors.numpy() * mask.numpy()[:, None]
    members = members / np.maximum(np.linalg.norm(members, axis=1, keepdims=True), 1e-300)
    return members @ members.T


@pytest.mark.parametrize(
    "measure", [effective_rank, stable_rank, trajectory_curvature, log_det_diversity, log_det_gains]
)
def test_masked_tokens_do_not_matter_and_batches_are_their_rows(measure) -> None:
    rng = np.random.default_rng(4)
    states, mask = rng.standard_normal((2, 3, 9, 5)), np.zeros((2, 3, 9), dtype=bool)
    mask[..., :6] = True
    mask[1, 2, 4:] = False
    poisoned = tensor(np.where(mask[..., None], states, np.nan))
    together = measure(poisoned, torch.from_numpy(mask))
    for i, j in np.ndindex(2, 3):
        alone = measure(tensor(states[i, j][mask[i, j]]))
        torch.testing.assert_close(together[i, j].flatten()[: alone.numel()], alone.flatten(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "measure",
    [
        effective_rank,
        stable_rank,
        trajectory_curvature,
        log_det_diversity,
        log_det_gains,
        lambda states, mask: torch.stack(
            [getattr(effective_rank_growth(states, mask, stride=2), name) for name in ("velocity", "acceleration")]
        ),
    ],
)
@pytest.mark.parametrize("shape", [(2, 9, 4), (2, 8, 11)])
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(measure, shape) -> None:
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(shape[:-1], dtype=torch.bool)
    mask[0, -2:] = False
    assert torch.autograd.gradcheck(lambda x: measure(x, mask), (states,))


def test_gradients_are_finite_on_a_straight_line_and_at_equal_singular_values() -> None:
    line = torch.arange(5.0).outer(torch.tensor([1.0, 2.0])).requires_grad_()
    (gradient,) = torch.autograd.grad(trajectory_curvature(line), line)
    assert torch.isfinite(gradient).all()
    corners = torch.eye(4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(effective_rank(corners), corners)
    assert torch.isfinite(gradient).all()


def test_what_cannot_be_measured_is_refused_in_a_sentence() -> None:
    states = torch.randn(2, 5, 3)
    with pytest.raises(DataError, match=r"floating or complex \(\.\.\., T, H\)"):
        effective_rank(states.long())
    with pytest.raises(DataError, match="bool"):
        stable_rank(states, torch.ones(2, 5))
    with pytest.raises(DataError, match="NaN or Inf"):
        trajectory_curvature(states.index_fill(1, torch.tensor([2]), float("inf")))
    with pytest.raises(ConfigError, match="stride"):
        effective_rank_growth(states, stride=0)
    with pytest.raises(ConfigError, match="max_tokens"):
        effective_rank_growth(states, max_tokens=1)
    with pytest.raises(ConfigError, match="scale"):
        log_det_diversity(states, scale=0.0)
