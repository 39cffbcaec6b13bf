"""Methods that read which solution a completion found: numbers by hand, and what they are unbiased for by
enumeration."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from objectives.batches import two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RunLimits, build_objective

FIVE_OF_EIGHT = [1.0] * 5 + [0.0] * 3


def advantages(method: str, rewards: list[float], modes: str, **options: Any) -> list[float]:
    """For one letter a completion; "-" is a completion of which no mode is known."""
    numbers = [[-1 if mode == "-" else ord(mode) for mode in modes]]
    batch = two_completions([[1.0]] * len(rewards), rewards=tuple(rewards))
    batch = with_inputs(batch, modes=torch.tensor(numbers), prompt_keys=torch.tensor([3]))
    return build_objective(method, **options).advantage(batch)[0].tolist()


@pytest.mark.parametrize(
    ("method", "options", "modes", "expected"),
    [
        ("mode_max_rl", {}, "AAAAB---", [0, 6, -2]),
        ("mode_max_rl", {"per_mode": True}, "AAAAB---", [0, 3, -1]),
        ("mode_max_rl", {}, "AAAAA---", [0.6, 0.6, -1]),
        ("coverage", {"k": 4}, "AAAABCDE", [-0.0679, 0.8179, -0.1821]),
        ("coverage", {"k": 1}, "AAAABCDE", [0.375, 0.375, -0.625]),
        ("coverage", {"k": 4, "baseline": "none"}, "AAAABCDE", [0.1143, 1, 0]),
        # Of the seven others, with v(c) = C(7 - c, 3) / C(6, 3): 1/20 of four in a mode, 4/20 of three, 1 of one.
        ("coverage", {"k": 4, "baseline": "leave_one_out"}, "AAAABCDE", [4 / 35 - 1.6 / 7, 1 - 0.2 / 7, -1.2 / 7]),
        # As printed, with and without the condition of two clusters.
        ("poly_epo", {"n": 2, "clusters": "all"}, "AAAABCDE", [0.0536, 0.2679, -0.1607]),
        ("poly_epo", {"n": 2, "clusters": "all", "needs_two": True}, "AAAABCDE", [-0.0536, 0.375, -0.0536]),
        ("poly_epo", {"n": 4, "clusters": "all"}, "AAAABCDE", [-0.0036, 0.0839, -0.0232]),
        ("poly_epo", {"n": 4, "clusters": "all", "needs_two": True}, "AAAABCDE", [-0.0071, 0.0875, -0.0196]),
        ("poly_epo", {"n": 6, "clusters": "all"}, "AAAABCDE", [-0.0030, 0.0248, -0.0043]),
        # Right ones alone.
        ("poly_epo", {"n": 4}, "AAAABCDE", [-0.0143, 0.1214, -0.0214]),
        ("poly_epo", {"n": 4}, "AAAAABCD", [0.0, 0.0, 0.0]),
        ("poly_epo", {"n": 2}, "AAAAABCD", [0.0536, 0.0536, -0.0893]),
        # What goes wrong as printed: five right ones of one mode teach nothing, or the wrong ones gain.
        ("poly_epo", {"n": 4, "clusters": "all"}, "AAAAABCD", [0.0, 0.0, 0.0]),
        ("poly_epo", {"n": 4, "clusters": "all", "needs_two": True}, "AAAAABCD", [-0.0107, -0.0107, 0.0179]),
        ("poly_epo", {"n": 6, "clusters": "all"}, "AAAAABCD", [-0.0020, -0.0020, 0.0033]),
    ],
)
def test_golden_advantages(method: str, options: dict[str, Any], modes: str, expected: list[float]) -> None:
    found = advantages(method, FIVE_OF_EIGHT, modes, **options)
    several, alone, wrong = expected
    assert found == pytest.approx([several] * 4 + [alone] + [wrong] * 3, abs=5e-5)


def test_mode_wise_maxrl_with_one_mode_is_maxrl_and_teaches_where_all_are_right() -> None:
    rewards = [1.0, 1.0, 0.0, 0.0, 0.0, math.nan]
    found = advantages("mode_max_rl", rewards, "AA----")
    assert found == pytest.approx(advantages("maxrl", rewards, "AA----", epsilon=0.0))
    assert advantages("mode_max_rl", [1.0] * 8, "AAAAAABB") == pytest.approx([-2 / 3] * 6 + [2] * 2)
    assert sum(advantages("mode_max_rl", FIVE_OF_EIGHT, "ABBCC---")) == pytest.approx(0, abs=1e-12)
    assert advantages("mode_max_rl", [0.0] * 4, "ABCD") == [0.0] * 4


def test_right_completions_without_a_known_mode_are_one_mode() -> None:
    known = advantages("mode_max_rl", FIVE_OF_EIGHT, "AAABB---")
    assert advantages("mode_max_rl", FIVE_OF_EIGHT, "AAA-----") == known


def expectation(method: str, shares: list[float], size: int, **options: Any) -> list[float]:
    """E of the gradient by each mode's probability, over all outcomes of a group; the rest of the mass is wrong."""
    wrong = 1 - sum(shares)
    letters = [chr(65 + place) for place in range(len(shares))]
    masses = dict(zip(letters, shares, strict=True)) | {"-": wrong}
    totals = [0.0] * len(shares)
    for outcome in product(masses, repeat=size):
        probability = math.prod(masses[one] for one in outcome)
        found = advantages(method, [float(one != "-") for one in outcome], "".join(outcome), **options)
        for place, letter in enumerate(letters):
            # The score of p_z with the wrong mass as what gives way.
            score = {letter: 1 / shares[place], "-": -1 / wrong}
            totals[place] += probability * sum(a * score.get(one, 0.0) for a, one in zip(found, outcome, strict=True))
    return totals


SHARES = [0.1, 0.3]


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_coverage_is_the_gradient_of_the_number_of_solutions_among_k(k: int, baseline: str) -> None:
    """d/dp_z sum_z [1 - (1 - p_z)^k] = k (1 - p_z)^(k - 1), of which the factor k is left out."""
    found = expectation("coverage", SHARES, 4, k=k, baseline=baseline)
    assert [value / 4 for value in found] == pytest.approx([(1 - share) ** (k - 1) for share in SHARES], rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_mean_of_the_group_as_the_baseline_has_a_bias_of_order_one_by_its_size(k: int) -> None:
    """It costs d/dp_z of E u = sum_z p_z (1 - p_z)^(k - 1), of G times the gradient."""
    found = expectation("coverage", SHARES, 4, k=k)
    gradient = [(1 - share) ** (k - 1) for share in SHARES]
    mean = [
        kept - share * (k - 1) * (1 - share) ** (k - 2) if k > 1 else kept
        for kept, share in zip(gradient, SHARES, strict=True)
    ]
    assert found == pytest.approx([4 * kept - lost for kept, lost in zip(gradient, mean, strict=True)], rel=1e-9)


def test_mode_wise_maxrl_is_the_likelihood_of_every_solution_cut_at_the_order_of_the_group() -> None:
    size = 4
    expected = [sum((1 - share) ** k for k in range(size - 1)) for share in SHARES]
    assert [value / size for value in expectation("mode_max_rl", SHARES, size)] == pytest.approx(expected, rel=1e-9)


def test_sets_are_drawn_where_there_are_too_many() -> None:
    whole = advantages("poly_epo", FIVE_OF_EIGHT, "AAAAB---")
    drawn = advantages("poly_epo", FIVE_OF_EIGHT, "AAAAB---", num_sets=60)
    assert drawn == advantages("poly_epo", FIVE_OF_EIGHT, "AAAAB---", num_sets=60)
    assert drawn != whole
    assert drawn == pytest.approx(whole, abs=0.03)
    assert advantages("poly_epo", [1.0, 0.0, math.nan], "AB-", n=2) == [0.0] * 3  # one set: nothing to compare


@pytest.mark.parametrize("method", ["mode_max_rl", "coverage"])
def test_rewards_between_right_and_wrong_are_refused(method: str) -> None:
    with pytest.raises(DataError, match="takes rewards of 0 and 1"):
        advantages(method, [1.0, 0.5, 0.0, 0.0], "AB--")


@pytest.mark.parametrize(("method", "name"), [("coverage", "k"), ("poly_epo", "n"), ("pkpo", "k"), ("pass_at_k", "k")])
def test_subsets_larger_than_a_group_are_refused_before_a_run_and_outside_of_one(method: str, name: str) -> None:
    options: dict[str, Any] = {name: 9}
    with pytest.raises(ConfigError, match=rf"{name} is 9, but groups of 8 completions .* take at most 8"):
        build_objective(method, RunLimits(group_size=8), **options)
    with pytest.raises(ConfigError, match=f"{name} is 9"):
        advantages(method, FIVE_OF_EIGHT, "AAAAB---", **options)
    build_objective(method, RunLimits(group_size=9), **options)


@pytest.mark.parametrize("method", ["pkpo", "coverage"])
def test_a_baseline_of_others_needs_one_more(method: str) -> None:
    with pytest.raises(ConfigError, match="take at most 7"):
        build_objective(method, RunLimits(group_size=8), k=8, baseline="leave_one_out")
    with pytest.raises(ConfigError, match="k is 8"):
        advantages(method, FIVE_OF_EIGHT, "AAAAB---", k=8, baseline="leave_one_out")


def test_without_modes_the_sentence_says_what_is_missing() -> None:
    batch = two_completions([[1.0], [1.0]])
    with pytest.raises(DataError, match=r"needs RolloutBatch\.extras\[MODES\] \(P, G\): int64, one number for each"):
        build_objective("coverage", k=2).advantage(batch)
    with pytest.raises(DataError, match=r"modes must have shape \(1, 2\)"):
        with_inputs(batch, modes=torch.ones(1, 3, dtype=torch.int64))


# Counts over the run -------------------------------------------------------------------------------------------------


def novelty(objective: Any, rewards: list[float], modes: str) -> list[float]:
    """What exploration adds to GRPO's advantages."""
    numbers = torch.tensor([[ord(mode) for mode in modes]])
    batch = two_completions([[1.0]] * len(rewards), rewards=tuple(rewards))
    batch = with_inputs(batch, modes=numbers, prompt_keys=torch.tensor([3]))
    plain = build_objective("grpo").advantage(batch)[0]
    return ((objective.advantage(batch)[0] - plain) / objective.advantage.coefficient).tolist()


def seen(objective: Any, modes: str, times: int = 1, key: int = 3) -> Any:
    numbers = torch.tensor([[ord(mode) for mode in modes]])
    for _ in range(times):
        objective = objective.before_rollout(torch.tensor([key]), torch.zeros(1, len(modes)), numbers)
    return objective


def test_batch_exploration_punishes_what_the_group_repeats() -> None:
    objective = build_objective("outcome_exploration", kind="batch")
    assert novelty(objective, [1.0, 0.0, 0.0, 0.0], "AAAB") == pytest.approx([-0.5, -0.5, -0.5, 0.0])
    assert novelty(objective, [1.0] * 4, "AAAB") == pytest.approx([0.0] * 4, abs=1e-12)


def test_counts_are_of_earlier_rollouts_of_the_prompt() -> None:
    objective = build_objective("outcome_exploration")
    rewards = [1.0, 0.0, 0.0, 0.0]
    now = seen(objective, "AABC")
    assert novelty(now, rewards, "AABC") == pytest.approx([0.5] * 4)  # none of an earlier batch
    later = seen(now, "AABC", times=2)
    # A four times, which is b0; B and C twice; D never.
    assert novelty(later, rewards, "ABCD") == pytest.approx([0.0, 2**-0.5 - 0.5, 2**-0.5 - 0.5, 0.5])
    assert novelty(seen(later, "AAAA", times=3), rewards, "AAAA") == pytest.approx([14**-0.5 - 0.5] * 4)
    other = seen(later, "ABCD", key=4)
    assert novelty(other, rewards, "DDDD") == pytest.approx([0.5] * 4)


def test_the_mean_of_the_others_as_the_baseline() -> None:
    objective = seen(seen(build_objective("outcome_exploration", kind="ucb_mean"), "AAAA"), "BBBB")
    assert novelty(objective, [1.0, 0.0, 0.0, 0.0], "ABBB") == pytest.approx([-0.5, *[1 / 6] * 3])


def test_counts_survive_a_checkpoint() -> None:
    objective = seen(seen(build_objective("outcome_exploration"), "AABC"), "AABB")
    again = build_objective("outcome_exploration").restored(objective.state())
    rewards = [1.0, 0.0, 0.0, 0.0]
    assert novelty(again, rewards, "ABCD") == novelty(objective, rewards, "ABCD")
    assert novelty(seen(again, "AAAA"), rewards, "ABCD") == novelty(seen(objective, "AAAA"), rewards, "ABCD")
    with pytest.raises(ConfigError, match="kind"):
        build_objective("outcome_exploration", kind="naive")
