"""Methods whose coefficients move from one update to the next, by hand."""

import json
import math
from typing import Any

import pytest
import torch

from objectives.batches import A, fields_of, input_names, random_batch, two_completions
from relax_rl.errors import ConfigError
from relax_rl.objectives import RolloutBatch, build_objective
from relax_rl.objectives.inputs import PROMPT_KEYS
from relax_rl.objectives.methods.dcpo import PromptMemory, SmoothedAdvantage
from relax_rl.objectives.updates import Schedule, UpdateReport


def report(entropy=1.0, step=1, num_steps=10):
    return UpdateReport(step=step, num_steps=num_steps, entropy=entropy)


def through_json(objective, fresh):
    return fresh.restored(json.loads(json.dumps(objective.state())))


def test_the_adaptive_bonus_moves_as_trls():
    objective = build_objective("adaptive_entropy_bonus", target=0.5, delta=0.1, high=0.25)
    applied, coefficients = [], []
    for entropy in (0.4, 0.5, 0.3, 0.6, 0.7, 0.2):
        applied.append(objective.regularizers[-1].applied)
        objective = objective.after(report(entropy))
        coefficients.append(objective.regularizers[-1].coefficient)
    # Worked by TRL's rule: up while the entropy is at most 0.5, bounded by 0.25, down above it.
    assert coefficients == pytest.approx([0.1, 0.2, 0.25, 0.15, 0.05, 0.15])
    # In force is what the update before left, unless its entropy was above the target; nothing at the very start.
    assert applied == pytest.approx([0.0, 0.1, 0.2, 0.25, 0.0, 0.0])
    assert (
        through_json(objective, build_objective("adaptive_entropy_bonus", target=0.5, delta=0.1, high=0.25))
        == objective
    )
    start = build_objective("adaptive_entropy_bonus")
    assert through_json(start, start) == start


def test_the_adaptive_bonus_in_force_is_the_fixed_one():
    batch = random_batch()
    objective = build_objective("adaptive_entropy_bonus", delta=0.1).after(report(0.1))
    fixed = build_objective("entropy_bonus", coefficient=0.1)
    out = objective(batch)
    assert torch.equal(out.loss, fixed(batch).loss)
    assert out.metrics["entropy/coefficient"] == pytest.approx(0.1)
    idle = objective.after(report(5.0))
    assert torch.equal(idle(batch).loss, build_objective("dapo", clip_high=0.2)(batch).loss)
    with pytest.raises(ConfigError, match=r"must lie in \[low, high\]"):
        build_objective("adaptive_entropy_bonus", coefficient=2.0)


def test_schedules_by_hand():
    assert [Schedule(1.0, 0.0).at(x) for x in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert Schedule(0.6, 0.4, "cosine").at(1 / 3) == pytest.approx(0.6 - 0.2 * 0.25)  # (1 - cos 60 deg) / 2 = 1/4
    with pytest.raises(ConfigError, match=r"objective\.schedule must be"):
        build_objective("scheduled_entropy_bonus", schedule="step")


def test_the_scheduled_bonus_follows_the_share_of_the_run():
    batch = random_batch()
    objective = build_objective("scheduled_entropy_bonus", start=0.4, end=0.0)
    for step, coefficient in ((0, 0.4), (3, 0.28), (10, 0.0)):
        moved = objective.after(report(step=step)) if step else objective
        expected = build_objective("entropy_bonus", coefficient=coefficient)(batch).loss
        torch.testing.assert_close(moved(batch).loss, expected, rtol=1e-12, atol=0)
        assert through_json(moved, objective) == moved
    with pytest.raises(ConfigError, match="must not be negative"):
        build_objective("scheduled_entropy_bonus", end=-1.0)


def test_entrocraft_by_hand():
    ratio = [[1.1, 1.0], [0.9, 1.0]]
    options: dict[str, Any] = {"low_start": 1.0, "high_start": 2.0, "low_end": 0.0, "high_end": 1.0}
    objective = build_objective("entrocraft", **options)

    def loss(entropy, method=objective):
        batch = two_completions(ratio, entropy=[[entropy, entropy]] * 2)
        return method(batch).loss.item()

    good, bad = -(1.1 + 1.0) * A / 2, (0.9 + 1.0) * A / 2
    assert loss(1.5) == pytest.approx((good + bad) / 2, rel=1e-12)  # within the band: grpo
    assert loss(2.5) == pytest.approx(good, rel=1e-12)  # above: the good completion alone, and the mean over one
    assert loss(0.5) == pytest.approx(bad, rel=1e-12)
    moved = objective.after(report(step=5))
    assert moved.token_weights.bounds == (0.5, 1.5)
    assert loss(1.6, moved) == pytest.approx(good, rel=1e-12)
    assert through_json(moved, objective) == moved
    with pytest.raises(ConfigError, match="must not exceed"):
        build_objective("entrocraft", low_end=0.9)


def test_the_mean_of_what_stays_is_over_completions_and_not_over_tokens():
    mask = [[True, True], [True, False]]
    batch = two_completions([[1.1, 1.0], [0.9, 1.0]], mask=mask, entropy=[[9.0, 9.0]] * 2)
    assert build_objective("entrocraft")(batch).loss.item() == pytest.approx(-(1.1 + 1.0) * A / 2, rel=1e-12)


def rewards_of(rewards, keys=None):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    zeros = torch.zeros(*rewards.shape, 1, dtype=torch.float64)
    extras = {} if keys is None else {PROMPT_KEYS: torch.tensor(keys)}
    return RolloutBatch(zeros, zeros, zeros == 0, rewards, extras=extras)


def test_prompt_memory_is_the_recorded_one():
    memory = PromptMemory()
    groups = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    found = []
    for group in groups:
        memory = memory.after(torch.tensor([7]), torch.tensor([group]))
        found.append(memory.entries[7])
    # The numbers that `get_mean_std` of lime-RL/DCPO (01787b0) gives for these groups, one after the other.
    assert [entry[0] for entry in found] == [1, 2, 3]
    assert found[0][1:] == pytest.approx((0.25, 0.5))
    assert found[1][1:] == pytest.approx((0.5, math.sqrt((0.25 + 0.25 + 0.5 * 0.25) / 2)))
    third = math.sqrt((2 * 0.3125 + 0.0 + 2 / 3 * 0.25) / 3)
    assert found[2][1:] == pytest.approx((1 / 3, third))


def test_dcpo_smooths_over_the_visits_of_a_prompt():
    advantage = build_objective("dcpo", epsilon=1e-12).advantage
    first = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    second = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    batch = rewards_of([[1.0, 1.0, 0.0, 1.0]], keys=[7])
    new = [0.5, 0.5, -1.5, 0.5]  # (s - 3/4) / (1/2)
    once = advantage.before_rollout(torch.tensor([7]), second)
    assert once(batch)[0].tolist() == pytest.approx(new)
    assert advantage(batch)[0].tolist() == pytest.approx(new)
    twice = advantage.before_rollout(torch.tensor([7]), first).before_rollout(torch.tensor([7]), second)
    total = [(value - 0.5) / math.sqrt(0.3125) for value in (1.0, 1.0, 0.0, 1.0)]
    # At the second visit both mixtures are halves.
    assert twice(batch)[0].tolist() == pytest.approx([(a + b) / 2 for a, b in zip(new, total, strict=True)])
    # A group without spread still learns from what the prompt had before: that is the point of it.
    third = twice.before_rollout(torch.tensor([7]), torch.zeros(1, 4))
    found = third(rewards_of([[0.0, 0.0, 0.0, 0.0]], keys=[7]))[0].tolist()
    mean, std = 1 / 3, math.sqrt((2 * 0.3125 + 2 / 3 * 0.25) / 3)
    assert found == pytest.approx([-mean / std / 3] * 4)  # A_new = 0; the smaller of a third and two thirds of A_tot
    assert third(rewards_of([[0.0, 0.0, 0.0, 0.0]], keys=[8])).abs().sum() == 0


def test_dcpo_takes_the_smaller_of_the_two_mixtures_for_each_completion():
    # Remembered: three visits, mean 1/4, deviation 1/2. The group itself: mean 1/2, deviation 1/sqrt(3).
    smooth = SmoothedAdvantage(epsilon=1e-12, memory=PromptMemory({7: (3, 0.25, 0.5)}))
    found = smooth(rewards_of([[1.0, 0.0, 0.0, 1.0]], keys=[7]))[0].tolist()
    new, total = {1.0: math.sqrt(3) / 2, 0.0: -math.sqrt(3) / 2}, {1.0: 1.5, 0.0: -0.5}
    first = {reward: 2 / 3 * new[reward] + total[reward] / 3 for reward in new}
    second = {reward: new[reward] / 3 + 2 / 3 * total[reward] for reward in new}
    assert abs(first[1.0]) < abs(second[1.0])
    assert abs(first[0.0]) > abs(second[0.0])
    assert found == pytest.approx([first[1.0], second[0.0], second[0.0], first[1.0]])


def test_the_memory_goes_through_a_checkpoint_and_knows_prompts_apart():
    objective = build_objective("dcpo")
    assert input_names(objective) == {"prompt_keys"}
    assert input_names(build_objective("dcpo", smooth=False)) == set()
    keys = torch.tensor([2**62 + 1, 2**62 + 2])
    moved = objective.before_rollout(keys, torch.tensor([[1.0, 0.0], [math.nan, 1.0]]))
    assert list(moved.advantage.memory.entries) == [2**62 + 1]  # one score is no spread
    assert through_json(moved, objective) == moved
    unscored = moved.advantage(rewards_of([[1.0, math.nan, 0.0]], keys=[3]))[0]
    assert unscored[1].item() == 0.0
    assert unscored[0].item() > 0


def test_methods_that_do_not_move_have_no_state():
    objective = build_objective("relax", xi=1.0)
    assert objective.state() == {}
    assert objective.after(report()) is objective
    fields = fields_of(random_batch())
    assert build_objective("grpo")(RolloutBatch(**fields)).loss.isfinite()
