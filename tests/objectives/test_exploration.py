"""Methods that reward what is unlikely or new: numbers by hand, other people's formulas, and what moves in them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from objectives.batches import present, random_batch, two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import UpdateTotals, build_objective
from relax_rl.objectives.inputs import PROMPT_KEYS
from relax_rl.objectives.methods.elliptical_counts import EllipticalMemory
from relax_rl.objectives.updates import UpdateReport


def of_reference(likelihoods: list[list[float]], rewards: tuple[float, ...]) -> Any:
    """Completions with these log-probabilities of their tokens under the reference; a missing token is masked."""
    width = max(map(len, likelihoods))
    padded = [[*row, *[math.nan] * (width - len(row))] for row in likelihoods]
    mask = [[place < len(row) for place in range(width)] for row in likelihoods]
    batch = two_completions([[1.0] * width] * len(rewards), rewards=rewards, mask=mask)
    return with_inputs(batch, ref_log_probs=torch.tensor([padded], dtype=torch.float64))


def test_mara_lifts_right_completions_to_the_reference_s_favourite() -> None:
    shaping: Any = build_objective("mara", beta=0.1).advantage
    batch = of_reference([[-1.0, -1.0], [-4.0], [-0.5, -0.5]], (1.0, 1.0, 0.0))
    assert shaping.shaping(batch)[0].tolist() == pytest.approx([1.0, 1.2, 0.0])
    assert shaping(batch)[0].tolist() == pytest.approx([1 - 2.2 / 3, 1.2 - 2.2 / 3, -2.2 / 3])
    # Tokens: -1 and -4 in the mean.
    by_token: Any = build_objective("mara", beta=0.1, per_token=True).advantage
    assert by_token.shaping(batch)[0].tolist() == pytest.approx([1.0, 1.3, 0.0])
    bounded: Any = build_objective("mara", beta=0.1, max_bonus=0.05).advantage
    assert bounded.shaping(batch)[0].tolist() == pytest.approx([1.0, 1.05, 0.0])


def test_mara_equalises_what_it_ought_to() -> None:
    """The optimum of E r - beta KL is pi_ref exp(r / beta): equal for all right answers of the shaped reward."""
    likelihoods, beta = torch.tensor([-2.0, -4.0, -1.0]), 0.1
    batch = of_reference([[value] for value in likelihoods.tolist()], (1.0, 1.0, 0.0))
    shaping: Any = build_objective("mara", beta=beta).advantage
    optimum = torch.softmax(likelihoods + shaping.shaping(batch)[0] / beta, 0)
    assert float(optimum[0]) == pytest.approx(float(optimum[1]))
    plain = torch.softmax(likelihoods + batch.rewards[0] / beta, 0)
    assert float(plain[0] / plain[1]) == pytest.approx(math.exp(2.0))  # the reference's ratio


def test_mara_without_effect_is_refused_and_keeps_a_reference() -> None:
    with pytest.raises(ConfigError, match=r"MARA does nothing at a strength of 0\.0"):
        build_objective("mara", beta=0.0)
    assert build_objective("mara", beta=0.0, strength=0.2).reference_coefficient == 0.2
    batch = of_reference([[-1.0], [-2.0]], (0.0, math.nan))
    assert build_objective("mara").advantage(batch)[0].tolist() == [0.0, 0.0]


def test_differential_smoothing_by_hand() -> None:
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], mask=[[True, True], [True, False]])
    plain = build_objective("grpo").advantage(batch)[0]
    half = math.log(0.5)
    cases: list[tuple[dict[str, Any], list[float]]] = [
        ({"right": 0.2, "wrong": 0.3}, [-0.2 * half, 0.3 * half]),
        ({"right": 0.2, "wrong": 0.3, "per_token": False}, [-0.2 * 2 * half, 0.3 * half]),
    ]
    for options, expected in cases:
        found = build_objective("differential_smoothing", **options).advantage(batch)[0] - plain
        assert found.tolist() == pytest.approx(expected)


def test_repo_r_by_hand_and_how_its_strength_moves() -> None:
    old = [[math.log(0.5), math.log(0.1)], [math.log(0.5), math.log(0.1)]]
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], old=old)
    objective = build_objective("repo_r", zeta=0.5, zeta_max=1.0)
    tokens, _ = present_weights(objective)(batch, torch.tensor([[2.0, -1.0]], dtype=torch.float64))
    assert tokens[0, 0].tolist() == pytest.approx([2 * (1 + 0.5 * math.log(2)), 2 * (1 + 0.5 * math.log(10))])
    # Of the second the factor would be negative.
    assert tokens[0, 1].tolist() == pytest.approx([-(1 - 0.5 * math.log(2)), 0.0])
    strengths = []
    for entropy in (1.0, 0.5, 0.5, 2.0):
        objective = objective.after(UpdateReport(step=1, num_steps=9, entropy=entropy))
        strengths.append(objective.state()["token_weights"]["zeta"])
    assert strengths == [0.5, 1.0, 1.0, 0.5]
    assert build_objective("repo_r").restored(objective.state()).state() == objective.state()
    fixed = build_objective("repo_r", adapts=False)
    assert fixed.after(UpdateReport(step=1, num_steps=9, entropy=1.0)) is fixed


def present_weights(objective: Any) -> Any:
    assert objective.token_weights is not None
    return objective.token_weights


def verl_whitened(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """verl's `masked_whiten`, written down: unbiased variance, 1e-8 under the root."""
    mean = values[mask].sum() / mask.sum()
    variance = ((values - mean) ** 2)[mask].sum() / (mask.sum() - 1)
    return (values - mean) / np.sqrt(variance + 1e-8) * mask


@pytest.mark.parametrize("baseline", ["none", "group"])
def test_reinforce_pp_is_verl_s(baseline: str) -> None:
    batch = random_batch(prompts=4)
    rewards, mask = batch.rewards.numpy().astype(float), batch.mask.numpy()
    values = rewards if baseline == "none" else rewards - rewards.mean(-1, keepdims=True)
    expected = verl_whitened(np.repeat(values[..., None], mask.shape[-1], -1), mask)
    found = build_objective("reinforce_pp", baseline=baseline).advantage(batch).unsqueeze(-1) * batch.mask
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_reinforce_pp_knows_the_whole_rollout_batch() -> None:
    batch = random_batch(prompts=4)
    objective = build_objective("reinforce_pp")
    whole = objective.advantage(batch)
    part = replace(
        random_batch(prompts=1), totals=UpdateTotals(4, 16, float(batch.mask.sum())), rewards=batch.rewards[:1]
    )
    with pytest.raises(DataError, match=r"call Objective\.before_rollout"):
        objective.advantage(part)
    told = objective.before_rollout(batch.extras[PROMPT_KEYS], batch.rewards, None, batch.lengths)
    torch.testing.assert_close(told.advantage(part), whole[:1])
    assert build_objective("reinforce_pp").restored(told.state()).state() == told.state()


def test_reinforce_pp_leaves_out_what_was_not_scored() -> None:
    scored = two_completions([[1.0]] * 3, rewards=(1.0, 0.0, 0.0))
    missing = two_completions([[1.0]] * 4, rewards=(1.0, 0.0, 0.0, math.nan))
    objective = build_objective("reinforce_pp")
    expected = objective.advantage(scored)[0].tolist()
    assert objective.advantage(missing)[0].tolist() == pytest.approx([*expected, 0.0])


def test_elliptical_counts_of_single_directions_are_counts() -> None:
    """One-hot features: 1 / sqrt(n + ridge), n how often a direction was seen by that prompt."""
    memory, one_hot = EllipticalMemory(ridge=0.5), torch.eye(4, dtype=torch.float64)
    keys = torch.tensor([7, 7, 7, 9])
    for _ in range(2):
        memory = memory.after(keys, one_hot[[0, 0, 1, 2]])
    found = memory.bonuses(torch.tensor([7, 9, 11]), one_hot.expand(3, 4, 4))
    counts = torch.tensor([[4, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(found, (counts.double() + 0.5) ** -0.5)


def test_elliptical_counts_over_a_run() -> None:
    batch = replace(random_batch(), rewards=torch.zeros(3, 4))
    batch = with_inputs(batch, prompt_keys=torch.tensor([2**62 + 1, 5, 2**62 + 3]))
    objective = build_objective("elliptical_counts", coefficient=1.0)
    new = objective.advantage(batch)
    torch.testing.assert_close(new, torch.full_like(new, 0.5))  # nothing was seen: 1 / sqrt(ridge) - 0.5, all wrong
    rows = present(objective(batch).to_remember)
    assert rows.shape == (12, 10)
    later = objective.after_rollout(rows)
    assert (later.advantage(batch) < new - 0.1).all()
    # A prompt whose key differs by 2 has its own memory.
    other = with_inputs(batch, prompt_keys=torch.tensor([2**62 + 5, 6, 2**62 + 7]))
    torch.testing.assert_close(later.advantage(other), new)
    again = build_objective("elliptical_counts", coefficient=1.0).restored(later.state())
    torch.testing.assert_close(again.advantage(batch), later.advantage(batch))


def test_elliptical_counts_leave_out_what_has_no_states_or_no_score() -> None:
    batch = random_batch()
    states = present(batch.hidden_states).clone()
    states[0, 0] = math.nan
    rewards = batch.rewards.clone()
    rewards[1, 1] = math.nan
    batch = replace(batch, hidden_states=states, rewards=rewards)
    objective = build_objective("elliptical_counts", coefficient=1.0)
    found = objective.advantage(batch) - build_objective("grpo").advantage(batch)
    assert found[0, 0] == found[1, 1] == 0
    assert (found.abs() > 0.1).sum() == 10
    assert len(present(objective(batch).to_remember)) == 11
