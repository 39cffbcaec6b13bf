"""Solutions told apart by positions: the kernel, the clusters, their agreement with modes, and credit by them."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from objectives.batches import two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RunLimits, build_objective
from relax_rl.objectives.latent_modes import agreement, clusters, latent_kernel

FAR = {"A": (0.0, 0.0), "B": (100.0, 0.0), "C": (0.0, 100.0), "-": (math.nan, math.nan)}
"""Modes so far apart that the kernel between two of them is 0."""


def advantages(method: str, rewards: list[float], positions: Tensor, modes: list[int] | None = None, **options: Any):
    batch = two_completions([[1.0]] * len(rewards), rewards=tuple(rewards))
    batch = with_inputs(batch, latent_keys=positions.unsqueeze(0))
    if modes is not None:
        batch = with_inputs(batch, modes=torch.tensor([modes]))
    return build_objective(method, **options).advantage(batch)[0]


def placed(letters: str) -> Tensor:
    return torch.tensor([FAR[letter] for letter in letters], dtype=torch.float64)


REWARDS = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, math.nan, 1.0]


@pytest.mark.parametrize("letters", ["AABACBAC", "AAAAAAAA", "A-B-CB-A"])
@pytest.mark.parametrize("kernel", ["soft", "clusters"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "none"])
def test_positions_far_apart_give_the_credit_of_modes(letters: str, kernel: str, baseline: str) -> None:
    modes = [-1 if letter == "-" else ord(letter) for letter in letters]
    for k in (1, 2, 4):
        options = {"k": k, "baseline": baseline}
        found = advantages("latent_coverage", REWARDS, placed(letters), kernel=kernel, **options)
        torch.testing.assert_close(found, advantages("coverage", REWARDS, placed(letters), modes, **options))
    found = advantages("latent_coverage", REWARDS, placed(letters), kernel=kernel, credit="mode_wise")
    torch.testing.assert_close(found, advantages("mode_max_rl", REWARDS, placed(letters), modes))


def test_the_soft_credit_is_a_mean_over_subsets() -> None:
    """By enumeration: u_i = mean over the subsets of k - 1 scored others of prod (1 - s_j kappa_ij)."""
    generator = torch.Generator().manual_seed(1)
    positions = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    kernel = latent_kernel(positions.unsqueeze(0))[0]
    scored = [place for place, reward in enumerate(REWARDS) if not math.isnan(reward)]

    def novelty(one: int, among: list[int], k: int) -> float:
        others = [place for place in among if place != one]
        sets = list(combinations(others, k - 1))
        return sum(math.prod(1 - REWARDS[j] * float(kernel[one, j]) for j in chosen) for chosen in sets) / len(sets)

    for k in (1, 2, 3):
        u = {one: REWARDS[one] * novelty(one, scored, k) for one in scored}
        found = advantages("latent_coverage", REWARDS, positions, k=k, baseline="none")
        assert [float(found[one]) for one in scored] == pytest.approx(list(u.values()))
        found = advantages("latent_coverage", REWARDS, positions, k=k, baseline="leave_one_out")
        for one in scored:
            left = [place for place in scored if place != one]
            baseline = sum(REWARDS[j] * novelty(j, left, k) for j in left) / len(left)
            assert float(found[one]) == pytest.approx(u[one] - baseline)
    assert float(found[6]) == 0.0


def test_near_states_are_nearly_one_solution() -> None:
    positions = torch.tensor([[0.0], [1.0], [3.0], [math.nan], [math.nan]])
    kernel = latent_kernel(positions.unsqueeze(0))[0]
    near = math.exp(-0.5)
    assert kernel[0].tolist() == pytest.approx([1.0, near, math.exp(-4.5), 0.0, 0.0])
    assert kernel[3].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    # Of two right ones at distance 1, each has the novelty 1 - kappa beside the other.
    found = advantages("latent_coverage", [1.0, 1.0], positions[:2], k=2, baseline="none")
    assert found.tolist() == pytest.approx([1 - near] * 2)


def test_average_linkage_joins_what_is_within_the_unit() -> None:
    # 0 and 0.9 are joined; 1.8 is 1.35 from both on average, though 0.9 from the nearer one.
    positions = torch.tensor([[[0.0], [0.9], [1.8], [0.1], [math.nan], [math.nan]]])
    takes_part = torch.tensor([[True, True, True, False, True, True]])
    found = clusters(positions, takes_part)[0].tolist()
    assert found[0] == found[1] != found[2]
    assert found[3] == -1
    assert found[4] == found[5] not in found[:3]
    assert clusters(positions, torch.zeros_like(takes_part)).tolist() == [[-1] * 6]


def test_the_agreement_with_modes() -> None:
    is_right = torch.ones(1, 4, dtype=torch.bool)
    modes = torch.tensor([[1, 1, 2, 2]])
    perfect = agreement(placed("AABB").unsqueeze(0), modes, is_right)
    assert (perfect.auc, perfect.rand) == (1.0, 1.0)
    crossed = agreement(placed("ABAB").unsqueeze(0), modes, is_right)
    # Of the pairs of one mode both are far, of the four others two are: 1/2 of the comparisons are ties at 100.
    assert crossed.auc == pytest.approx(0.25)
    # Hubert and Arabie: no pair is together in both, 2 * 2 / 6 would be by chance, of at most 2.
    assert crossed.rand == pytest.approx((0 - 4 / 6) / (2 - 4 / 6))
    alone = agreement(placed("AABB").unsqueeze(0), modes, torch.tensor([[True, False, False, False]]))
    assert math.isnan(alone.auc)
    assert math.isnan(alone.rand)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"k is 9, but groups of 8 completions"):
        build_objective("latent_coverage", RunLimits(group_size=8), k=9)
    build_objective("latent_coverage", RunLimits(group_size=8), k=9, credit="mode_wise")
    with pytest.raises(ConfigError, match=r"objective\.quantile must be between 0 and 1, but is 1\.0"):
        build_objective("latent_coverage", quantile=1.0)
    with pytest.raises(DataError, match="Latent coverage takes rewards of 0 and 1"):
        advantages("latent_coverage", [0.5, 1.0], placed("AB"), k=1)
    with pytest.raises(DataError, match=r"extras\[LATENT_KEYS\]"):
        build_objective("latent_coverage", k=2)(two_completions([[1.0], [1.0]]))
