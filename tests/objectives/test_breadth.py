"""Methods that claim breadth: the numbers of their papers and codes, worked by hand, and what they are unbiased for."""

import math
from itertools import product

import pytest
import torch

from objectives.batches import two_completions
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import build_objective

TWO_OF_EIGHT = [1.0, 1.0] + 6 * [0.0]
ONE_OF_SIXTEEN = [1.0] + 15 * [0.0]


def advantages(method, rewards, **options):
    batch = two_completions([[1.0]] * len(rewards), rewards=tuple(rewards))
    return build_objective(method, **options).advantage(batch)[0].tolist()


@pytest.mark.parametrize(
    ("method", "options", "rewards", "right", "wrong"),
    [
        ("maxrl", {"epsilon": 0.0}, TWO_OF_EIGHT, 3.0, -1.0),
        ("maxrl", {"epsilon": 0.0}, ONE_OF_SIXTEEN, 15.0, -1.0),
        ("tailrl", {}, TWO_OF_EIGHT, 0.375, -0.125),
        ("rs_grpo", {}, TWO_OF_EIGHT, 0.9225, -0.3075),
        ("f_grpo", {"gamma": 0.5, "epsilon": 1e-6}, TWO_OF_EIGHT, 1.4031, -0.4677),
        ("f_grpo", {"gamma": 1.0, "epsilon": 1e-6}, TWO_OF_EIGHT, 1.2151, -0.4050),
        ("pkpo", {"k": 4, "baseline": "none"}, TWO_OF_EIGHT, 0.5, 0.3571),
        # Of the subsets of four with a given right one, C(6, 3) / C(7, 3) hold no other.
        ("pkpo", {"k": 4}, TWO_OF_EIGHT, 0.5 * 20 / 35, 0.0),
        # Less 4/7 of the pass@4 of the other seven, of which one or two are right: 1 - 15/35 and 1 - 5/35.
        ("pkpo", {"k": 4, "baseline": "leave_one_out"}, TWO_OF_EIGHT, 0.5 - 80 / 245, 0.3571 - 120 / 245),
        ("w_reinforce", {}, TWO_OF_EIGHT, 0.1, -1.0),
        ("w_reinforce", {"right": 0.0}, TWO_OF_EIGHT, 0.0, -1.0),
        ("w_reinforce", {"right": 1.0, "wrong": 0.0}, TWO_OF_EIGHT, 1.0, 0.0),
        # One of the seven others is right, or two.
        ("rloo", {}, TWO_OF_EIGHT, 1 - 1 / 7, -2 / 7),
    ],
)  # fmt: skip
def test_golden_advantages(method, options, rewards, right, wrong):
    found = advantages(method, rewards, **options)
    assert found == pytest.approx([right if reward else wrong for reward in rewards], abs=5e-5)


@pytest.mark.parametrize("method", ["maxrl", "tailrl", "rs_grpo", "f_grpo", "pkpo", "rloo"])
def test_a_group_that_agrees_teaches_nothing_and_one_without_a_score_takes_no_part(method):
    for rewards in ([0.0] * 6, [1.0] * 6, [math.nan] * 6):
        assert advantages(method, rewards) == pytest.approx([0.0] * 6, abs=1e-12)
    found = advantages(method, [*TWO_OF_EIGHT, math.nan])
    assert found == pytest.approx([*advantages(method, TWO_OF_EIGHT), 0.0])


def test_tail_advantages_of_other_rewards():
    # w = 0, 0.2/3, + 0.3/2, + 0.5/1.
    assert advantages("tailrl", [0.0, 0.2, 0.5, 1.0]) == pytest.approx([-0.25, -0.18333, -0.03333, 0.46667], abs=5e-6)
    order = [0.5, 0.0, 1.0, 0.2, 0.2]
    found = advantages("tailrl", order)
    assert found == pytest.approx(advantages("tailrl", [reward + 3 for reward in order]))
    assert found[3] == pytest.approx(found[4])


def test_risk_towards_none_is_dr_grpo_and_far_up_the_best_alone():
    rewards = [0.0, 0.2, 0.5, 1.0]
    assert advantages("rs_grpo", rewards, risk=1e-6) == pytest.approx(advantages("dr_grpo", rewards), abs=1e-5)
    best = [1000 * value for value in advantages("rs_grpo", rewards, risk=1000.0)]
    assert best == pytest.approx([-1, -1, -1, 3])
    assert all(map(math.isfinite, advantages("rs_grpo", [1e4, -1e4], risk=2.0)))


def expectation(method, share, size, **options):
    """E of the policy gradient by the success probability, over all 2^size outcomes of a group."""
    total = 0.0
    for outcome in product((0.0, 1.0), repeat=size):
        probability = math.prod(share if right else 1 - share for right in outcome)
        scores = [(right - share) / (share * (1 - share)) for right in outcome]
        found = advantages(method, outcome, **options)
        total += probability * sum(value * score for value, score in zip(found, scores, strict=True))
    return total


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_maxrl_is_the_likelihood_cut_at_the_order_of_the_group(share):
    expected = sum((1 - share) ** k for k in range(7))
    assert expectation("maxrl", share, 8, epsilon=1e-12) / 8 == pytest.approx(expected, rel=1e-9)
    assert expectation("tailrl", share, 8) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("baseline", ["subset", "leave_one_out", "none"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_pkpo_is_the_gradient_of_pass_at_k(baseline, k):
    expected = k * 0.7 ** (k - 1)
    assert expectation("pkpo", 0.3, 6, k=k, baseline=baseline) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["maxrl", "f_grpo", "pkpo", "w_reinforce"])
def test_rewards_between_right_and_wrong_are_refused(method):
    with pytest.raises(DataError, match="takes rewards of 0 and 1"):
        advantages(method, [1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("rs_grpo", {"risk": 0.0}, "risk must be above 0"),
        ("f_grpo", {"gamma": -1.0}, "gamma must not be negative"),
        ("pkpo", {"k": 0}, "k must be at least 1"),
        ("w_reinforce", {"wrong": -1.0}, "must not be negative"),
        ("sapo", {"temperature_negative": 0.0}, "must be above 0"),
    ],
)
def test_settings_out_of_range(method, options, words):
    with pytest.raises(ConfigError, match=words):
        build_objective(method, **options)


def test_pkpo_needs_groups_that_hold_its_subsets():
    with pytest.raises(ConfigError, match="takes at most 8"):
        advantages("pkpo", TWO_OF_EIGHT, k=9)
    with pytest.raises(ConfigError, match="takes at most 7"):
        advantages("pkpo", TWO_OF_EIGHT, k=8, baseline="leave_one_out")
    assert advantages("pkpo", TWO_OF_EIGHT, k=8) == pytest.approx([0.0] * 8)  # with two right, none is needed


def test_the_gate_of_sapo_by_hand():
    batch = two_completions([[1.5, 0.5], [1.5, 1.0]])
    loss, metrics = build_objective("sapo").surrogate(batch, torch.tensor([[2.0, -1.0]]))
    positive = [4 / (1 + math.exp(-(ratio - 1))) for ratio in (1.5, 0.5)]
    negative = [4 / 1.05 / (1 + math.exp(-1.05 * (ratio - 1))) for ratio in (1.5, 1.0)]
    assert loss[0, 0].tolist() == pytest.approx([-2 * value for value in positive])
    assert loss[0, 1].tolist() == pytest.approx(negative)
    # The slope 4 g (1 - g) is 1 at a ratio of 1.
    slopes = [4 * gate * (1 - gate) for gate in (1 / (1 + math.exp(-x)) for x in (0.5, -0.5, 0.525, 0.0))]
    assert float(metrics["gate/slope"]) == pytest.approx(sum(slopes) / 4)


def test_the_geometric_mean_of_gmpo_by_hand():
    mask = [[True, True], [True, False]]
    batch = two_completions([[2.0, 0.5], [0.5, 9.0]], mask=mask)
    loss, metrics = build_objective("gmpo").surrogate(batch, torch.tensor([[2.0, -1.0]]))
    # A > 0: only log 2 = 0.69 is bounded, by 0.4. A < 0: -0.69 is bounded by -0.4; what is masked counts nothing.
    assert loss[0, 0].tolist() == pytest.approx([-2 * math.exp((0.4 - math.log(2)) / 2)] * 2)
    assert loss[0, 1, 0].item() == pytest.approx(math.exp(-0.4))
    assert float(metrics["clip_ratio/region_mean"]) == pytest.approx(2 / 3)
    objective = build_objective("gmpo", epsilon=0.0)
    # Advantages of one right and one wrong: +-1 / sqrt(2).
    expected = (-math.exp((0.4 - math.log(2)) / 2) + math.exp(-0.4)) / math.sqrt(2) / 2
    assert objective(batch).loss.item() == pytest.approx(expected)


def test_a_long_completion_counts_by_its_length_in_luspo():
    mask = [[True, True, True], [True, False, False]]
    batch = two_completions([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], mask=mask)
    objective = build_objective("luspo", epsilon=0.0)
    assert objective(batch).loss.item() == pytest.approx((-3 + 1) / math.sqrt(2) / 2)
