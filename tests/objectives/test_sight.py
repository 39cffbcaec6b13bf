"""PAPO, VPPO and image_credit: what a masked image changes, by hand and against the authors' steps in numpy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from objectives.batches import A, random_batch, two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import MASKED_LOG_PROBS, MaskedLogProbs
from relax_rl.objectives.methods.image_credit import ImageRank
from relax_rl.objectives.methods.vppo import PerceptionWeights
from relax_rl.objectives.sight import image_information, token_dependence

MASKED = MaskedLogProbs()


def test_papo_by_hand():
    """Every token is twice as likely with the image: k3 = 1/2 - 1 + ln 2, and the policy gradient's value is 0."""
    batch = with_inputs(
        two_completions([[1.0, 1.0], [1.0, 1.0]]), masked_log_probs=torch.full((1, 2, 2), math.log(0.25))
    )
    output = build_objective("papo", beta=0.0)(batch)
    kl = 0.5 - 1 + math.log(2)
    assert output.loss.item() == pytest.approx(-0.02 * kl + 0.05 * math.log(2))
    assert output.metrics["sight/kl_masked"] == pytest.approx(kl)
    assert output.metrics["sight/surprisal"] == pytest.approx(math.log(2))
    output.loss.backward()
    # d/dlogp of the three terms, over 4 tokens: -+A, -gamma (1 - exp(-d)), -eta.
    right, wrong = batch.log_probs.grad[0]
    advantage = 0.5 / (math.sqrt(0.5) + 1e-6)
    assert right.tolist() == pytest.approx([(-advantage - 0.02 * 0.5 - 0.05) / 4] * 2)
    assert wrong.tolist() == pytest.approx([(advantage - 0.02 * 0.5 - 0.05) / 4] * 2)


def test_without_its_terms_papo_is_grpo_by_tokens():
    batch = random_batch()
    plain = build_objective("papo", beta=0.0, gamma=0.0, entropy_coefficient=0.0, clip_high=0.2, dual_clip=None)
    simple = build_objective("forking_tokens", share=1.0, clip_high=0.2, epsilon=1e-6)
    torch.testing.assert_close(plain(batch).loss, simple(batch).loss)
    assert MASKED_LOG_PROBS not in plain.inputs


def test_the_divergence_of_a_token_is_bounded():
    """As in the authors' code: 20 nats, and an estimate of 10; beyond it a token has no gradient."""
    batch = with_inputs(two_completions([[1.0], [1.0]]), masked_log_probs=torch.tensor([[[5.0], [-40.0]]]))
    assert token_dependence(batch, MASKED).flatten().tolist() == pytest.approx([10.0, 10.0])
    output = build_objective("papo", beta=0.0, gamma=1.0, entropy_coefficient=0.0)(batch)
    output.loss.backward()
    assert batch.log_probs.grad.flatten().tolist() == pytest.approx([-A / 2, A / 2], rel=1e-3)


def authors_vppo(old, hidden, mask, share, least):
    """Factor of each token's advantage: the steps of dp_actor.py for one micro-batch that is the whole update."""
    kl = np.clip(np.exp(np.clip(hidden - old, -20, 20)) - np.clip(hidden - old, -20, 20) - 1, 0, 10)
    length = mask.sum(1)
    factors = np.zeros_like(old)
    for row in range(len(old)):
        valid = np.where(mask[row], kl[row], -np.inf)
        factors[row, np.argsort(-valid, kind="stable")[: math.ceil(length[row] * share)]] = 1.0
    score = (kl * mask).sum(1) / np.maximum(length, 1)
    placed = np.clip((score - score.min()) / (score.max() - score.min()), 0, 1)
    most = least + (1 - least) / (placed.mean() + 1e-8)
    return factors * (least + placed * (most - least))[:, None]


@pytest.mark.parametrize(("share", "least"), [(0.4, 0.9), (0.2, 0.0), (1.0, 0.8)])
def test_vppo_weighs_tokens_as_the_authors_code(share, least):
    batch = random_batch()
    weights = PerceptionWeights(share, least, MASKED)
    advantages = torch.randn(batch.rewards.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found, metrics = weights(batch, advantages)
    old, hidden, mask = (
        tensor.detach().flatten(0, 1).numpy() for tensor in (batch.old_log_probs, batch.required(MASKED), batch.mask)
    )
    expected = authors_vppo(old, hidden, mask, share, least) * advantages.flatten()[:, None].numpy()
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), expected, rtol=1e-12)
    lengths = mask.sum(1)
    assert metrics["tokens/selected"].item() == pytest.approx(np.ceil(lengths * share).sum() / lengths.sum())


def test_vppo_by_hand():
    """Two completions of five tokens; two of each learn. s is .2 (k3 of ln 2) and 0: factors 1.1 and 0.9."""
    hidden = torch.full((1, 2, 5), math.log(0.5), dtype=torch.float64)
    hidden[0, 0, [1, 3]] = math.log(0.25)
    batch = with_inputs(two_completions([[1.0] * 5] * 2), masked_log_probs=hidden)
    found, _ = PerceptionWeights(0.4, 0.9, MASKED)(batch, torch.tensor([[2.0, -1.0]], dtype=torch.float64))
    # The mean place is 1/2, so that most = .9 + .1 / .5; of equal tokens the first two learn.
    assert found[0, 0].tolist() == pytest.approx([0, 2.2, 0, 2.2, 0])
    assert found[0, 1].tolist() == pytest.approx([-0.9, -0.9, 0, 0, 0])
    loss = build_objective("vppo", entropy_coefficient=0.0)(batch).loss
    advantage = 0.5 / (math.sqrt(0.5) + 1e-6)
    # Divided by all ten tokens.
    assert loss.item() == pytest.approx(-advantage * (2 * 1.1 - 2 * 0.9) / 10)
    penalised = build_objective("vppo")(batch).loss
    assert penalised.item() == pytest.approx(loss.item() + 0.06 * math.log(2))


def test_equal_dependence_scales_nothing():
    batch = random_batch()
    batch = batch.with_extra(MASKED_LOG_PROBS, batch.old_log_probs)
    found, _ = PerceptionWeights(1.0, 0.5, MASKED)(batch, torch.ones(batch.rewards.shape, dtype=torch.float64))
    assert torch.equal(found, batch.mask.double())


def test_image_credit_ranks_right_completions_by_what_the_image_tells():
    """Three right completions, by .1, .3 and .2 nats a token; the wrong one rests on its image most and gets none."""
    old = torch.full((1, 4, 2), -1.0, dtype=torch.float64)
    told = torch.tensor([0.1, 0.3, 0.2, 0.9], dtype=torch.float64)
    batch = replace(
        random_batch(prompts=1, tokens=2),
        old_log_probs=old,
        log_probs=old.clone().requires_grad_(),
        mask=torch.ones(1, 4, 2, dtype=torch.bool),
        rewards=torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64),
        extras={MASKED_LOG_PROBS: old - told[None, :, None]},
    )
    torch.testing.assert_close(image_information(batch, MASKED)[0], told)
    assert ImageRank(0.5, 1.0, MASKED)(batch)[0].tolist() == pytest.approx([1.0, 1.5, 1.25, 0.0])
    output = build_objective("image_credit")(batch)
    assert output.per_completion["advantage"][0].tolist() == pytest.approx([0.0625, 0.5625, 0.3125, -0.9375])
    one = replace(batch, rewards=torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64))
    assert ImageRank(0.5, 1.0, MASKED)(one)[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    unscored = replace(batch, rewards=torch.tensor([[1.0, float("nan"), 1.0, 0.0]], dtype=torch.float64))
    found = ImageRank(0.5, 1.0, MASKED)(unscored)[0].tolist()
    assert math.isnan(found[1])
    assert [found[0], *found[2:]] == pytest.approx([1.0, 1.5, 0.0])


@pytest.mark.parametrize("method", ["papo", "vppo", "image_credit"])
def test_the_image_methods_need_their_input_and_sound_settings(method):
    batch = random_batch()
    with pytest.raises(DataError, match=r"MASKED_LOG_PROBS"):
        build_objective(method)(replace(batch, extras={}))
    refused: list[dict[str, Any]] = [{"mask_share": 0.0}, {"mask_share": 1.5}, {"mask_patch": 0}]
    for options in refused:
        with pytest.raises(ConfigError, match=next(iter(options))):
            build_objective(method, **options)
    (wanted,) = (one for one in build_objective(method, mask_share=0.3, mask_patch=8).inputs if one == MASKED_LOG_PROBS)
    assert (wanted.share, wanted.patch) == (0.3, 8)


def test_negative_coefficients_are_refused():
    for method, setting in (("papo", "gamma"), ("image_credit", "coefficient"), ("vppo", "entropy_coefficient")):
        options: dict[str, Any] = {setting: -0.1}
        with pytest.raises(ConfigError, match="must not be negative"):
            build_objective(method, **options)
    with pytest.raises(ConfigError, match="least_scale is a factor"):
        build_objective("vppo", least_scale=1.5)
