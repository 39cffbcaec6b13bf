"""Advantages at the size of GRPO's: the factor, what it follows from, and what it leaves alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from objectives.batches import random_batch, two_completions, with_inputs
from relax_rl.errors import ConfigError
from relax_rl.objectives import METHODS, Objective, RolloutBatch, build_objective
from relax_rl.objectives.inputs import LATENT_KEYS, MODES, PROMPT_KEYS
from relax_rl.objectives.matching import MatchedAdvantage

NOT_KNOWN_BEFORE = {
    *("rep_exp", "g2rl", "sr_grpo", "log_det", "mara", "elliptical_counts", "differential_smoothing"),
    "image_credit",
}
"""Their advantages follow from hidden states or log-probabilities."""
ONE = [[1.0] + 15 * [0.0]]


def told(objective: Objective, rewards: list[list[float]]) -> Objective:
    return objective.before_rollout(torch.arange(len(rewards)), torch.tensor(rewards, dtype=torch.float64))


def batch_of(rewards: list[float]) -> RolloutBatch:
    batch = two_completions([[1.0]] * len(rewards), rewards=tuple(rewards))
    return with_inputs(batch, prompt_keys=torch.tensor([0]))


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def test_maxrl_has_the_size_of_grpo() -> None:
    matched = told(build_objective("maxrl", match_rms=True), ONE)
    batch = batch_of(ONE[0])
    grpo = build_objective("grpo").advantage(batch)
    assert rms(matched.advantage(batch)) == pytest.approx(rms(grpo))
    assert rms(build_objective("maxrl").advantage(batch)) > 3.9 * rms(grpo)
    assert matched.advantage(batch)[0, 0].item() == pytest.approx(3.75, rel=1e-3)


def test_the_means_run_over_the_rollout_batches() -> None:
    half = [[1.0] * 8 + [0.0] * 8]
    objective = told(told(build_objective("maxrl", match_rms=True, epsilon=0.0), ONE), half)
    # Mean squares: MaxRL 15 and 1; GRPO 15/16 of both, but for its epsilon.
    expected = math.sqrt((0.9 * 15 / 16 + 15 / 16) / (0.9 * 15 + 1))
    assert isinstance(objective.advantage, MatchedAdvantage)
    assert objective.advantage.factor == pytest.approx(expected, rel=1e-3)


def test_where_one_of_the_two_says_nothing_the_factor_is_one() -> None:
    objective = told(build_objective("w_reinforce", match_rms=True), [[0.0] * 4])
    batch = batch_of([0.0] * 4)
    assert objective.advantage(batch).tolist() == [[-1.0] * 4]
    # Once GRPO has had an advantage, both have.
    later = told(objective, [[1.0, 0.0, 0.0, 0.0]])
    assert abs(later.advantage(batch)[0, 0].item()) != 1.0


def test_grpo_is_left_alone_to_the_bit() -> None:
    batch = random_batch()
    plain, matched = build_objective("grpo"), build_objective("grpo", match_rms=True)
    matched = matched.before_rollout(batch.extras[PROMPT_KEYS], batch.rewards)
    assert torch.equal(plain(batch).loss, matched(batch).loss)


def test_the_base_knows_what_it_would_know_alone_and_both_go_through_a_checkpoint() -> None:
    keys, modes = torch.tensor([3]), torch.tensor([[1, 1, 2, 2]])
    rewards = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    objective, alone = (build_objective("outcome_exploration", match_rms=is_so) for is_so in (True, False))
    for _ in range(2):
        objective, alone = (one.before_rollout(keys, rewards, modes) for one in (objective, alone))
    batch = with_inputs(batch_of([1.0, 1.0, 0.0, 0.0]), prompt_keys=keys, modes=modes)
    assert isinstance(objective.advantage, MatchedAdvantage)
    torch.testing.assert_close(objective.advantage(batch), alone.advantage(batch) * objective.advantage.factor)
    state = json.loads(json.dumps(objective.state()))
    again = build_objective("outcome_exploration", match_rms=True).restored(state)
    assert torch.equal(again.advantage(batch), objective.advantage(batch))
    assert again.state() == objective.state()
    assert {MODES, PROMPT_KEYS} <= objective.inputs


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_matched_or_refused_in_one_sentence(method: str) -> None:
    if method in NOT_KNOWN_BEFORE:
        with pytest.raises(ConfigError, match=rf"objective\.match_rms scales .* those of '{method}' follow from"):
            build_objective(method, match_rms=True)
        return
    options: dict[str, Any] = (
        {"k": 2}
        if method in ("pass_at_k", "pkpo", "coverage", "latent_coverage")
        else {"n": 2}
        if method == "poly_epo"
        else {}
    )
    batch = random_batch(prompts=4)
    objective = build_objective(method, match_rms=True, **options)
    objective = objective.before_rollout(
        batch.extras[PROMPT_KEYS],
        batch.rewards,
        batch.extras[MODES],
        batch.lengths_as_sampled,
        batch.extras[LATENT_KEYS],
    )
    grpo = build_objective("grpo").advantage(batch)
    assert rms(objective.advantage(batch)) == pytest.approx(rms(grpo), rel=1e-6)
