"""ReLaX's neighbours, against numpy and by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from objectives.batches import input_names, random_batch, two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import SCORE_FEATURES
from relax_rl.objectives.methods.g2rl import GradientNovelty
from relax_rl.objectives.methods.rank_shaping import RankShaping
from relax_rl.objectives.methods.rep_exp import EllipticalBonus
from relax_rl.objectives.shaping import mean_states, usable_states
from relax_rl.objectives.updates import UpdateReport


def latent_batch(prompts=2, group=4, tokens=50, width=6, seed=0):
    batch = random_batch(seed=seed, prompts=prompts, group=group, tokens=tokens)
    generator = torch.Generator().manual_seed(seed + 1)
    states = torch.randn(prompts, group, tokens, width, generator=generator, dtype=torch.float64).cumsum(2)
    lengths = torch.randint(tokens // 2, tokens + 1, (prompts, group), generator=generator)
    mask = torch.arange(tokens) < lengths.unsqueeze(-1)
    return replace(batch, hidden_states=states, mask=mask, ref_log_probs=None)


def means_of(batch):
    states, mask = batch.hidden_states.numpy(), batch.mask.numpy()
    return np.stack([[states[p, g][mask[p, g]].mean(0) for g in range(mask.shape[1])] for p in range(mask.shape[0])])


def group_relative(rewards, epsilon=1e-4):
    return (rewards - rewards.mean(-1, keepdims=True)) / (rewards.std(-1, ddof=1, keepdims=True) + epsilon)


# RepExp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["leverage", "leave_one_out"])
def test_the_elliptical_bonus_is_that_of_rank_one_updates(kind):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5, 3))
    centred = features - features.mean(0)
    inverse = np.eye(3) / 0.01
    for row in centred[:, :, None]:  # Sherman and Morrison, one completion at a time, as the recipe does it
        inverse -= inverse @ row @ row.T @ inverse / (1 + row.T @ inverse @ row)
    expected = []
    for row in centred[:, :, None]:
        without = inverse
        if kind == "leave_one_out":
            without = inverse + inverse @ row @ row.T @ inverse / (1 - row.T @ inverse @ row)
        expected.append((row.T @ without @ row).item())
    bonus = EllipticalBonus(kind=kind).bonuses(torch.tensor(features)[None], torch.ones(1, 5, dtype=torch.bool))
    assert bonus[0].tolist() == pytest.approx(expected, rel=1e-7)
    assert kind == "leave_one_out" or bonus.sum().item() <= 3


def test_rep_exp_adds_the_bonus_where_a_completion_is_right():
    batch = latent_batch()
    batch = replace(batch, rewards=torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    objective = build_objective("rep_exp", coefficient=0.5, dimension=4)
    shaping = objective.advantage.shaping
    features = torch.tensor(means_of(batch)) @ shaping.projection(6)
    bonus = shaping.bonuses(features, torch.ones(2, 4, dtype=torch.bool)).numpy()
    expected = group_relative(np.array([[1.0, 0.0, 0.0, 0.0]]) + 0.5 * bonus[:1])
    advantages = objective.advantage(batch).numpy()
    assert advantages[0] == pytest.approx(expected[0], rel=1e-6)
    assert advantages[1].tolist() == [0.0] * 4
    assert input_names(objective) == {"hidden_states"}
    with pytest.raises(ConfigError, match=r"objective\.kind must be .*, but is 'both'"):
        build_objective("rep_exp", kind="both")
    with pytest.raises(DataError, match=r"RolloutBatch\.hidden_states"):
        objective(replace(batch, hidden_states=None))


def test_the_projection_keeps_lengths_on_average_and_is_always_the_same():
    shaping = EllipticalBonus(dimension=64)
    matrix = shaping.projection(400)
    assert torch.equal(matrix, EllipticalBonus(dimension=64).projection(400))
    assert not torch.equal(matrix, EllipticalBonus(dimension=64, seed=1).projection(400))
    assert (matrix != 0).double().mean().item() == pytest.approx(1 / 20, rel=0.1)
    vectors = torch.randn(200, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert ((vectors @ matrix).square().sum(-1) / vectors.square().sum(-1)).mean().item() == pytest.approx(1, rel=0.1)


# G2RL ----------------------------------------------------------------------------------------------------------------


def test_g2rl_by_hand():
    features = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]], dtype=torch.float64)
    signs = torch.tensor([[1.0, -1.0, -1.0]], dtype=torch.float64)
    everything = torch.ones(1, 3, dtype=torch.bool)
    novelty = GradientNovelty().novelty(features, signs, everything)
    # The first two are parallel, the third is at a right angle. w_12 = 1/2; w_21 = e / (e + 1/e); nu: 1/2, 1 - w_21, 1.
    second = 1 - math.e / (math.e + 1 / math.e)
    raw = [0.5, second, 1.0]
    expected = [(value - second) / (1 - second) for value in raw]
    assert novelty[0].tolist() == pytest.approx(expected, rel=1e-9)
    batch = two_completions([[1.0], [1.0]])
    batch = with_inputs(batch, score_features=torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64))
    shaped = GradientNovelty()(batch)
    assert shaped[0].tolist() == [1.0, -1.0]  # no difference in novelty
    lone = GradientNovelty().novelty(features, signs, torch.tensor([[True, False, False]]))
    assert lone[0].tolist() == [0.0, 0.0, 0.0]


def test_g2rl_rewards_follow_the_printed_formula():
    batch = latent_batch()
    rewards = torch.tensor([[1.0, 0.0, 1.0, math.nan], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    batch = with_inputs(replace(batch, rewards=rewards), score_features=batch.hidden_states[:, :, 0])
    shaping = GradientNovelty(strength=0.5)
    signs = torch.where(rewards == 1, 1.0, -1.0).double()
    novelty = shaping.novelty(batch.extras[SCORE_FEATURES], signs, ~rewards.isnan())
    expected = signs + 0.5 * novelty
    found = shaping(batch)
    assert found[0, 3].isnan()
    torch.testing.assert_close(found[~rewards.isnan()], expected[~rewards.isnan()])
    assert build_objective("g2rl").advantage(batch)[0, 3].item() == 0.0


# Stable rank, log det ------------------------------------------------------------------------------------------------


def test_the_stable_rank_is_the_reward_and_the_verifier_none():
    batch = latent_batch()
    states, mask = batch.hidden_states.numpy(), batch.mask.numpy()
    ranks = np.array(
        [
            [
                (s := np.linalg.svd(states[p, g][mask[p, g]], compute_uv=False), (s**2).sum() / s[0] ** 2)[1]
                for g in range(4)
            ]
            for p in range(2)
        ]
    )
    assert build_objective("sr_grpo").advantage(batch).numpy() == pytest.approx(group_relative(ranks), rel=1e-5)
    unscored = replace(batch, rewards=torch.full((2, 4), math.nan))
    assert torch.equal(
        build_objective("sr_grpo").advantage(unscored), build_objective("sr_grpo").advantage(batch).float()
    )
    both = group_relative(ranks + 3.0 * batch.rewards.numpy())
    assert build_objective("sr_grpo", verifier_weight=3.0).advantage(batch).numpy() == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize("center", [False, True])
def test_the_log_det_bonus_is_what_a_completion_adds_to_the_volume(center):
    batch = latent_batch()
    vectors = means_of(batch)
    vectors = vectors - vectors.mean(1, keepdims=True) if center else vectors
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    bonus = np.zeros((2, 4))
    for p in range(2):
        whole = np.linalg.slogdet(np.eye(4) + vectors[p] @ vectors[p].T)[1]
        for g in range(4):
            rest = np.delete(vectors[p], g, axis=0)
            bonus[p, g] = whole - np.linalg.slogdet(np.eye(3) + rest @ rest.T)[1]
    expected = group_relative(batch.rewards.numpy() + 0.2 * bonus)
    found = build_objective("log_det", coefficient=0.2, center=center).advantage(batch).numpy()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


# VERL ----------------------------------------------------------------------------------------------------------------


def effective_rank(states):
    values = np.linalg.svd(states - states.mean(0), compute_uv=False)
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares + 1e-300)).sum()))


def figures_of(states, stride):
    """ER, ERV and ERA as the released code takes them (hf618/VERL, metrics_utils.py), for short completions."""
    ranks = [effective_rank(states[: j * stride + 1]) for j in range(1, (len(states) - 1) // stride + 1)]
    differences = [ranks[j] - np.mean(ranks[:j]) for j in range(1, len(ranks))]
    velocity = np.mean(differences) if differences else 0.0
    acceleration = np.mean(np.diff(differences)) if len(differences) > 1 else 0.0
    return np.array([effective_rank(states), velocity, acceleration])


def test_rank_shaping_is_the_formula():
    batch = latent_batch()
    objective = build_objective("rank_shaping", stride=8)
    states, mask = batch.hidden_states.numpy(), batch.mask.numpy()
    figures = np.array([[figures_of(states[p, g][mask[p, g]], 8) for g in range(4)] for p in range(2)])
    first = objective(batch)
    assert torch.equal(first.loss, build_objective("dapo", clip_high=0.2)(batch).loss)
    assert first.metrics["latent/effective_rank"] == pytest.approx(figures[..., 0].mean(), rel=1e-6)
    report = UpdateReport(step=1, num_steps=9, entropy=1.0, metrics=first.metrics)
    moved = objective.after(report)
    baseline = 0.3 * figures.mean((0, 1))
    assert moved.token_weights.baseline == pytest.approx(tuple(baseline), rel=1e-6)
    x = np.clip((figures - baseline) / (np.abs(baseline) + 1e-8), -5, 5)
    gate = 1 / (1 + np.exp(-2 * x[..., 2]))
    bonus = np.maximum(gate * np.tanh(x[..., 0]) + (1 - gate) * np.tanh(x[..., 1]), 0)
    plain = objective.advantage(batch).numpy()
    expected = plain + np.minimum(bonus, np.abs(plain) / 2)
    shaped, _ = moved.token_weights(batch, objective.advantage(batch))
    assert shaped.shape == batch.log_probs.shape
    assert shaped[..., 0].numpy() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(shaped[..., 0], shaped[..., -1])  # every token, not the last alone
    assert (np.sign(expected) == np.sign(plain)).all()
    second = moved.after(report).token_weights.baseline
    assert second == pytest.approx(tuple(0.7 * baseline + 0.3 * figures.mean((0, 1))), rel=1e-6)
    assert objective.restored(json.loads(json.dumps(moved.state()))) == moved
    assert objective.restored(json.loads(json.dumps(objective.state()))) == objective


# What holds for all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rank_shaping", "rep_exp", "sr_grpo", "log_det"])
def test_states_are_read_and_not_taught_through_and_broken_ones_left_out(method):
    batch = latent_batch()
    states = batch.hidden_states.clone()
    states[0, 1, 3] = math.inf
    states.requires_grad_()
    broken = replace(batch, hidden_states=states)
    objective = build_objective(method)
    out = objective(broken)
    assert out.loss.isfinite()
    assert torch.autograd.grad(out.loss, states, allow_unused=True)[0] is None
    others, has_states = mean_states(broken)
    assert has_states.tolist() == [[True, False, True, True], [True] * 4]
    assert torch.equal(others[1], mean_states(batch)[0][1])


def test_a_completion_without_usable_states_counts_nowhere():
    """Neither its NaN nor the 0 that stands in its place is in a state, a mean or a figure."""
    batch = latent_batch()
    states = batch.hidden_states.detach().clone()
    states[0, 1, 3], states[1, 2, 0] = math.nan, math.inf
    mask = batch.mask.clone()
    mask[0, 0] = False
    broken = replace(batch, hidden_states=states, mask=mask)
    usable, usable_mask = usable_states(broken)
    assert usable.isfinite().all()
    assert (usable[~usable_mask] == 0).all()
    means, has_states = mean_states(broken)
    assert means.isfinite().all()
    assert (means[~has_states] == 0).all()
    assert has_states.tolist() == [[False, False, True, True], [True, True, False, True]]
    objective = build_objective("rank_shaping", stride=8)
    figures, is_known = objective.token_weights.figures(broken)
    assert torch.equal(is_known, has_states)
    shaping = objective.token_weights
    assert isinstance(shaping, RankShaping)
    moved = replace(shaping, baseline=(1.0, 0.1, 0.1))
    advantages = torch.full_like(broken.rewards, 0.8)
    shaped, _ = moved(broken, advantages)
    assert torch.equal(shaped[~is_known], torch.full_like(shaped[~is_known], 0.8))
    assert (shaped[is_known] > 0.8).any()
    found = objective(broken).metrics
    for name, values in zip(("effective_rank", "rank_velocity", "rank_acceleration"), figures, strict=True):
        assert found[f"latent/{name}"] == pytest.approx(values[is_known].mean().item())


def test_the_overlong_punishment_by_hand():
    mask = [[True] * 8 + [False] * 2, [True] * 10]
    batch = two_completions([[1.0] * 10, [1.0] * 10], rewards=(1.0, 1.0), mask=mask)
    objective = build_objective("dapo", overlong_buffer=4, max_completion_length=10)
    # Free up to 6 tokens; 8 cost half of it, 10 all.
    assert objective.advantage.shaping(batch)[0].tolist() == [0.5, 0.0]
    assert objective.advantage(batch)[0, 0].item() > 0
    # What the loss leaves out was sampled all the same.
    whole = replace(batch, mask=batch.mask & False, sampled_lengths=torch.tensor([[8, 10]]))
    assert objective.advantage.shaping(whole)[0].tolist() == [0.5, 0.0]
    with pytest.raises(ConfigError, match=r"trainer\.max_completion_length"):
        build_objective("dapo", overlong_buffer=4)
