"""The methods next to ReLaX, each by hand."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from objectives.batches import A, fields_of, input_names, present, random_batch, two_completions
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RolloutBatch, UpdateTotals, build_objective
from relax_rl.objectives.methods.clip_cov import CovarianceClippedSurrogate
from relax_rl.objectives.selection import covariance_columns, token_covariance
from relax_rl.objectives.surrogates import ClippedSurrogate


def gradient_of(objective, batch):
    return torch.autograd.grad(objective(batch).loss, batch.log_probs)[0].flatten().tolist()


def test_dr_grpo_divides_by_a_constant_and_not_by_the_std():
    batch = two_completions([[1.1, 1.3], [0.7, 1.0]], mask=[[True, True], [True, False]])
    objective = build_objective("dr_grpo", max_completion_length=10)
    # Advantages +-1/2. Tokens: -1.1/2, -min(1.3, 1.2)/2; second: max(0.7, 0.8)/2. Over 2 completions and 10 tokens.
    assert objective(batch).loss.item() == pytest.approx((-0.55 - 0.6 + 0.4) / 20, rel=1e-12)
    assert gradient_of(objective, batch) == pytest.approx([-0.55 / 20, 0.0, 0.0, 0.0], rel=1e-12)


def test_dapo_clips_higher_and_counts_every_token_alike():
    batch = two_completions([[1.25, 1.3], [0.7, 1.0]], mask=[[True, True], [True, False]])
    objective = build_objective("dapo")
    # 1.25 is inside the wider bound, 1.3 is clipped to 1.28, 0.7 to 0.8; three tokens.
    assert objective(batch).loss.item() == pytest.approx((-1.25 - 1.28 + 0.8) * A / 3, rel=1e-12)
    assert gradient_of(objective, batch) == pytest.approx([-1.25 * A / 3, 0.0, 0.0, 0.0], rel=1e-12)


def test_gspo_clips_the_ratio_of_the_whole_completion():
    # Geometric means: sqrt(1.2 / 1.2) = 1 for the first; 0.9 for the second, below 0.9997 with A < 0: clipped.
    batch = two_completions([[1.2, 1 / 1.2], [0.9, 0.9]])
    objective = build_objective("gspo")
    assert objective(batch).loss.item() == pytest.approx(0.5 * (-A + 0.9997 * A), rel=1e-9)
    # Straight through: each token of the first gets s_i A / T_i / B, whatever its own ratio.
    assert gradient_of(objective, batch) == pytest.approx([-A / 4, -A / 4, 0.0, 0.0], rel=1e-12)
    wide = build_objective("gspo", clip_low=0.5)
    assert gradient_of(wide, batch) == pytest.approx([-A / 4, -A / 4, 0.9 * A / 4, 0.9 * A / 4], rel=1e-12)


def test_cispo_caps_the_weight_and_keeps_the_gradient():
    batch = two_completions([[6.0, 1.0], [0.1, 1.0]], old=[[-2.0, -1.0], [-0.5, -1.0]])
    objective = build_objective("cispo")
    log_probs = batch.log_probs.detach().flatten().tolist()
    weights = [5.0 * A, A, -0.1 * A, -A]  # 6 is capped at 5; there is no lower bound
    expected = -sum(w * lp for w, lp in zip(weights, log_probs, strict=True)) / 4
    assert objective(batch).loss.item() == pytest.approx(expected, rel=1e-12)
    assert gradient_of(objective, batch) == pytest.approx([-w / 4 for w in weights], rel=1e-12)
    verl = build_objective("cispo", ratio_min=0.8, ratio_max=1.2)
    assert gradient_of(verl, batch) == pytest.approx([-1.2 * A / 4, -A / 4, 0.8 * A / 4, A / 4], rel=1e-12)


def test_entropy_bonus_by_hand():
    mask = [[True, True], [True, False]]
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], mask=mask, entropy=[[0.5, 1.5], [1.0, 7.0]])
    objective, bare = (build_objective("entropy_bonus", coefficient=value) for value in (0.3, 0.0))
    out = objective(batch)
    assert out.loss.item() == pytest.approx(-A / 3 - 0.3 * 3.0 / 3, rel=1e-12)
    (gradient,) = torch.autograd.grad(out.loss, present(batch.entropy))
    assert gradient.flatten().tolist() == pytest.approx([-0.1, -0.1, -0.1, 0.0])
    assert torch.equal(bare(batch).loss, build_objective("dapo", clip_high=0.2)(batch).loss)
    assert input_names(bare) == set()
    assert input_names(objective) == {"entropy"}


def test_an_entropy_bonus_without_effect_is_refused():
    fields = fields_of(random_batch())
    with pytest.raises(DataError, match=r"RolloutBatch\.entropy is detached"):
        build_objective("entropy_bonus")(RolloutBatch(**fields | {"entropy": fields["entropy"].detach()}))
    with pytest.raises(DataError, match=r"needs RolloutBatch\.entropy"):
        build_objective("entropy_bonus")(replace(RolloutBatch(**fields), entropy=None))
    with torch.no_grad():
        assert build_objective("entropy_bonus")(RolloutBatch(**fields)).loss.isfinite()


def test_simple_rl_is_grpo_by_tokens_with_a_kl_and_an_entropy_bonus():
    batch = random_batch()
    count = batch.mask.sum()
    d = (batch.log_probs - present(batch.ref_log_probs))[batch.mask]
    expected = build_objective("dapo", clip_high=0.2)(batch).loss
    expected = expected + 1e-4 * (torch.exp(-d) - 1 + d).mean() - 1e-3 * (batch.entropy * batch.mask).sum() / count
    torch.testing.assert_close(build_objective("simple_rl")(batch).loss, expected)


COVARIANCE_RATIO = [[1.5, 1.0], [0.5, 1.0]]
COVARIANCE_OLD = [[-1.0, -3.0], [-2.0, -4.0]]


def test_covariance_of_each_token_by_hand():
    batch = two_completions(COVARIANCE_RATIO, old=COVARIANCE_OLD)
    logs = [math.log(1.5) - 1, -3.0, math.log(0.5) - 2, -4.0]
    mean = sum(logs) / 4
    expected = [A * (logs[0] - mean), A * (logs[1] - mean), -A * (logs[2] - mean), -A * (logs[3] - mean)]
    columns = covariance_columns(batch, torch.tensor([[A, -A]], dtype=torch.float64))
    found = token_covariance(columns[batch.mask])
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-12)
    # In numbers: 1.40, -0.30, 0.09, 1.01: token 0 has most, then token 3.
    assert sorted(range(4), key=lambda i: -expected[i]) == [0, 3, 2, 1]


def test_kl_cov_by_hand():
    batch = two_completions(COVARIANCE_RATIO, old=COVARIANCE_OLD)
    objective = build_objective("kl_cov", coefficient=0.5)  # k = max(1, int(0.002 * 4)) = 1: token 0
    expected = (-1.5 * A - A + 0.5 * A + A + 0.5 * math.log(1.5)) / 4
    out = objective(batch)
    assert out.loss.item() == pytest.approx(expected, rel=1e-12)
    assert out.metrics["tokens/selected"] == 0.25
    # No clip: 1.5 keeps its gradient, and |log r| adds its sign.
    assert gradient_of(objective, batch) == pytest.approx([(-1.5 * A + 0.5) / 4, -A / 4, 0.5 * A / 4, A / 4])
    half = build_objective("kl_cov", k_ratio=0.5)(batch)  # tokens 0 and 3; the second has r = 1
    assert half.metrics["tokens/selected"] == 0.5
    with pytest.raises(ConfigError, match="k_ratio is a share"):
        build_objective("kl_cov", k_ratio=2.0)


def test_clip_cov_by_hand():
    batch = two_completions(COVARIANCE_RATIO, old=COVARIANCE_OLD)
    # Only token 0 (1.40) is between 1.2 and 5: it loses its gradient and stays in the denominator.
    objective = build_objective("clip_cov", cov_low=1.2)
    out = objective(batch)
    assert out.loss.item() == pytest.approx((-A + 0.5 * A + A) / 4, rel=1e-12)
    assert out.metrics["tokens/selected"] == 0.25
    assert gradient_of(objective, batch) == pytest.approx([0.0, -A / 4, 0.5 * A / 4, A / 4])
    # Where PPO has clipped a token already, it is no candidate.
    assert build_objective("clip_cov", cov_low=1.2, clip_high=0.2)(batch).metrics["tokens/selected"] == 0.0
    with pytest.raises(ConfigError, match="low < high"):
        build_objective("clip_cov", cov_low=6.0)


def test_the_draw_of_clip_cov_follows_its_seed_and_leaves_the_global_generator_alone():
    batch = random_batch(prompts=8, tokens=20)
    advantages = build_objective("clip_cov").advantage(batch)

    def drawn(seed):
        surrogate = CovarianceClippedSurrogate(ClippedSurrogate(1.0, 1.0), 0.02, 0.0, 5.0, seed)
        columns = surrogate.columns(batch, advantages)[batch.mask]
        selected, candidates = surrogate.choose(columns) > 0, surrogate.candidates(columns)
        assert int(selected.sum()) == int(0.02 * int(batch.mask.sum())) < int(candidates.sum())
        assert not (selected & ~candidates).any()
        return selected

    state = torch.random.get_rng_state()
    first = drawn(0)
    torch.rand(7)
    assert torch.equal(drawn(0), first)
    assert not torch.equal(drawn(1), first)
    torch.random.set_rng_state(state)
    drawn(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_r1_zero_div_by_hand():
    batch = two_completions([[1.1, 1.0], [0.9, 1.0]])
    objective, bare = build_objective("r1_zero_div"), build_objective("r1_zero_div", coefficient=0.0)
    logs = [math.log(0.55), math.log(0.5)]
    term = 0.01 * (1.1 * logs[0] + logs[1]) / 2 / 2  # only the first completion is correct
    assert objective(batch).loss.item() == pytest.approx(bare(batch).loss.item() + term, rel=1e-12)
    more = [a - b for a, b in zip(gradient_of(objective, batch), gradient_of(bare, batch), strict=True)]
    expected = [0.01 * 1.1 * (1 + logs[0]) / 4, 0.01 * (1 + logs[1]) / 4, 0.0, 0.0]
    assert more == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert torch.equal(bare(batch).loss, build_objective("grpo")(batch).loss)


def test_entropy_advantage_by_hand():
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], entropy=[[0.1, 5.0], [0.5, 5.0]])
    objective = build_objective("entropy_advantage")
    # A + min(0.4 H, |A| / 2): 0.04, capped at A / 2; -A + 0.2, capped at -A / 2.
    expected = [A + 0.04, 1.5 * A, -A + 0.2, -0.5 * A]
    assert objective(batch).loss.item() == pytest.approx(-sum(expected) / 4, rel=1e-12)
    assert gradient_of(objective, batch) == pytest.approx([-value / 4 for value in expected], rel=1e-12)
    assert torch.autograd.grad(objective(batch).loss, present(batch.entropy), allow_unused=True)[0] is None
    with pytest.raises(ConfigError, match="kappa > 1"):
        build_objective("entropy_advantage", kappa=1.0)


def test_forking_tokens_by_hand():
    mask = [[True, True, True], [True, True, False]]
    entropy = [[0.1, 3.0, 0.2], [0.3, 2.0, 9.0]]  # the 9 is behind the mask
    batch = two_completions([[1.0, 1.1, 1.0], [1.0, 0.9, 1.0]], mask=mask, entropy=entropy)
    kept, everything = (build_objective("forking_tokens", share=0.3, denominator=name) for name in ("kept", "all"))
    # ceil(0.3 * 5) = 2 tokens: the second of each completion.
    assert kept(batch).loss.item() == pytest.approx((-1.1 * A + 0.9 * A) / 2, rel=1e-12)
    assert everything(batch).loss.item() == pytest.approx((-1.1 * A + 0.9 * A) / 5, rel=1e-12)
    assert gradient_of(kept, batch) == pytest.approx([0.0, -1.1 * A / 2, 0.0, 0.0, 0.9 * A / 2, 0.0], rel=1e-12)
    assert kept(batch).metrics["tokens/selected"] == pytest.approx(0.4)
    whole = build_objective("forking_tokens", share=1.0)(batch).loss
    assert torch.equal(whole, build_objective("dapo")(batch).loss)
    assert input_names(kept) == {"entropy", "token_choice"}
    with pytest.raises(ConfigError, match="but is 'some'"):
        build_objective("forking_tokens", denominator="some")


def test_the_kept_denominator_of_micro_batches_is_the_token_weighted_mean_of_their_means():
    batch = random_batch(prompts=2)
    objective = build_objective("forking_tokens", scope="micro_batch")
    totals = UpdateTotals(2, 8, float(batch.mask.sum()))
    parts = [fields_of(batch, lambda tensor, i=i: tensor[i : i + 1]) for i in range(2)]
    shares = sum(objective(RolloutBatch(**part, totals=totals)).loss for part in parts)
    means = [objective(RolloutBatch(**part)).loss for part in parts]
    counts = [part["mask"].sum() for part in parts]
    torch.testing.assert_close(shares, (means[0] * counts[0] + means[1] * counts[1]) / sum(counts))


def rewards_of(rewards):
    zeros = torch.zeros(1, len(rewards), 1, dtype=torch.float64)
    return RolloutBatch(zeros, zeros, zeros == 0, torch.tensor([rewards], dtype=torch.float64))


def test_pass_at_k_advantages_are_the_published_numbers():
    advantage = build_objective("pass_at_k", k=4).advantage
    found = advantage(rewards_of([1.0, 1.0] + 6 * [0.0]))[0]
    # n=8, c=2, k=4: rho = 1 - 15/70, sigma = sqrt(rho (1 - rho)), A_wrong: 15/70 - 10/35.
    assert found.tolist() == pytest.approx(2 * [0.5222] + 6 * [-0.1741], abs=5e-5)
    assert found.sum().item() == pytest.approx(0.0, abs=1e-12)
    unscored = advantage(rewards_of([1.0, 1.0, math.nan] + 6 * [0.0]))[0]
    assert unscored[2].item() == 0.0
    assert torch.equal(unscored[[0, 1, *range(3, 9)]], found)
    assert not advantage(rewards_of(5 * [1.0] + 3 * [0.0])).any()  # every four hold a right one
    assert not advantage(rewards_of(8 * [0.0])).any()


def test_pass_at_k_is_the_mean_over_all_subsets():
    rewards = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    subsets = list(combinations(range(6), 3))
    value = {subset: max(rewards[i] for i in subset) for subset in subsets}
    rho = sum(value.values()) / len(subsets)
    sigma = math.sqrt(rho * (1 - rho))
    expected = []
    for i in range(6):
        own = [value[subset] for subset in subsets if i in subset]
        expected.append((sum(own) / len(own) - rho) / (sigma + 1e-6))
    assert build_objective("pass_at_k", k=3).advantage(rewards_of(rewards))[0].tolist() == pytest.approx(expected)


def test_pass_at_k_refuses_what_it_cannot_mean():
    with pytest.raises(ConfigError, match="take a smaller k"):
        build_objective("pass_at_k", k=4).advantage(rewards_of([1.0, 0.0]))
    with pytest.raises(DataError, match="rewards of 0 and 1"):
        build_objective("pass_at_k", k=1).advantage(rewards_of([1.0, -1.0]))
    with pytest.raises(ConfigError, match="k must be at least 1"):
        build_objective("pass_at_k", k=0)


def test_grpo_passk_rewards_the_lead_of_the_best():
    advantage = build_objective("grpo_passk", epsilon=0.0).advantage
    found = advantage(rewards_of([1.0, 0.0, 0.5, 0.5]))[0].tolist()
    # Lead 1/2; unbiased variance (1/4 + 1/4) / 3.
    assert found == pytest.approx([0.5 / math.sqrt(1 / 6), 0.0, 0.0, 0.0])
    unscored = build_objective("grpo_passk").advantage(rewards_of([math.nan, 1.0, 0.0]))[0].tolist()
    assert unscored == pytest.approx([0.0, 1 / (math.sqrt(0.5) + 1e-6), 0.0])
    for rewards in ([1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [math.nan, 1.0, math.nan], 3 * [math.nan]):
        assert advantage_is_zero(rewards)


def advantage_is_zero(rewards):
    return not build_objective("grpo_passk").advantage(rewards_of(rewards)).any()


def test_ce_gppo_by_hand():
    batch = two_completions([[1.5, 0.5, 1.0], [1.5, 0.5, 12.0]])
    objective = build_objective("ce_gppo")
    # A > 0: 1.5 is outside, 1.0 * 1.2; 0.5 as it is. A < 0: 1.5 as it is; 0.5 outside, 0.75 * 0.8; 12 above dual clip.
    factors = [1.2, 0.5, 1.0, -1.5, -0.6, -10.0]
    assert objective(batch).loss.item() == pytest.approx(-A * sum(factors) / 6, rel=1e-12)
    slopes = [1.2, 0.5, 1.0, -1.5, -0.6, 0.0]
    assert gradient_of(objective, batch) == pytest.approx([-A * slope / 6 for slope in slopes], rel=1e-12)
    none = build_objective("ce_gppo", beta_low=0.0, beta_high=0.0, dual_clip=1e9)
    ppo = build_objective("dapo", clip_high=0.2)
    assert gradient_of(none, batch) == pytest.approx(gradient_of(ppo, batch))


def test_aspo_by_hand():
    ratio = [[1.3, 1.3, 0.5, 0.2, 1.5], [0.5, 0.7, 0.7, 4.0, 1.5]]
    entropy = [[0.0, 9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0, 0.0]]
    batch = two_completions(ratio, entropy=entropy)
    objective = build_objective("aspo")
    capped = [3 * math.log(0.5 * 0.2), 3 * math.log(0.5 * 4.0)]
    # Right: 1.3 is above 1.2 (no gradient), but within 1.4 at high entropy; 1 / 0.2 = 5 is above the cap of 3.
    right = [1 / 1.2, 1 / 1.3, 2.0, capped[0], 1 / 1.2]
    # Wrong: 0.5 and 0.7 are below 0.8, but 0.7 is above 0.6 at high entropy; 4 is above the cap.
    wrong = [0.8, 0.8, 0.7, capped[1], 1.5]
    assert objective(batch).loss.item() == pytest.approx(-A * (sum(right) - sum(wrong)) / 10, rel=1e-12)
    slopes = [0.0, 1 / 1.3, 2.0, 3.0, 0.0, 0.0, 0.0, -0.7, -3.0, -1.5]
    assert gradient_of(objective, batch) == pytest.approx([-A * slope / 10 for slope in slopes], rel=1e-12)


def test_aspo_stays_finite_where_the_ratio_is_not():
    old = [[-800.0, 0.0], [-800.0, 0.0]]
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], old=old, entropy=[[1.0, 2.0], [1.0, 2.0]])
    moved = torch.tensor([[[0.0, -800.0], [0.0, -800.0]]], dtype=torch.float64, requires_grad=True)
    batch = replace(RolloutBatch(**fields_of(batch)), log_probs=moved)
    out = build_objective("aspo")(batch)
    assert torch.autograd.grad(out.loss, moved)[0].isfinite().all()


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(1.0, 0.8, 1.1708), (0.5, 0.5, 1.3062), (0.01, 0.5, 5.0), (1e-6, 0.5, 10.0)]
)
def test_bounds_of_dcpo_are_the_published_numbers(probability, low, high):
    log = math.log(probability)
    batch = two_completions([[1.0], [1.0]], old=[[log], [log]])
    found = build_objective("dcpo").surrogate.bounds(batch)
    assert [bound[0, 0, 0].item() for bound in found] == pytest.approx([low, high], abs=5e-5)


def test_dcpo_by_hand():
    # Probability 1/2: bounds 0.5 and 1.3062.
    high = 0.5 + 0.5 * math.sqrt(2.6)
    batch = two_completions([[1.4, 1.3], [0.4, 12.0]])
    objective = build_objective("dcpo")
    assert objective(batch).loss.item() == pytest.approx(-A * (high + 1.3 - 0.5 - 10.0) / 4, rel=1e-12)
    assert gradient_of(objective, batch) == pytest.approx([0.0, -1.3 * A / 4, 0.0, 0.0], rel=1e-12)


def test_pass_at_k_of_a_group_with_one_right_completion_and_of_one_with_none():
    objective = build_objective("pass_at_k", k=2)
    # Of six pairs three hold no right one: failure 1/2, deviation 1/2. With a given wrong one, two of three fail.
    one = two_completions([[1.0]] * 4, rewards=(1.0, 0.0, 0.0, 0.0))
    assert objective.advantage(one)[0].tolist() == pytest.approx([1.0, *[(1 / 2 - 2 / 3) / (1 / 2)] * 3], rel=1e-3)
    none = two_completions([[1.0]] * 4, rewards=(0.0, 0.0, 0.0, 0.0))
    assert objective.advantage(none)[0].tolist() == [0.0] * 4
    # One wrong completion is fewer than a pair: every pair holds a right one.
    most = two_completions([[1.0]] * 4, rewards=(1.0, 1.0, 1.0, 0.0))
    assert objective.advantage(most)[0].tolist() == [0.0] * 4
