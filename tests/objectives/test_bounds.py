"""The bounds on the ratio and on the KL estimate, against the formulas of TRL and verl written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from objectives.batches import random_batch, two_completions
from relax_rl.errors import ConfigError
from relax_rl.objectives import METHODS, RolloutBatch, build_objective, method_options
from relax_rl.objectives.kl import token_kl
from relax_rl.objectives.surrogates import ClippedSurrogate

RATIOS = [[0.5, 0.9, 1.1, 1.4, 3.0, 40.0], [0.5, 0.9, 1.1, 1.4, 3.0, 40.0]]


def trl_token_loss(ratio, advantage, low, high, delta):
    """TRL 1.16, GRPOTrainer._compute_loss: coef_1 is capped at delta, coef_2 is PPO's clip."""
    capped = ratio if delta is None else torch.clamp(ratio, max=delta)
    return -torch.min(capped * advantage, torch.clamp(ratio, 1 - low, 1 + high) * advantage)


def verl_token_loss(ratio, advantage, low, high, c):
    """verl, core_algos.compute_policy_loss_vanilla: the larger loss, bounded by -c A where A < 0."""
    worse = torch.maximum(-advantage * ratio, -advantage * torch.clamp(ratio, 1 - low, 1 + high))
    return torch.where(advantage < 0, torch.min(-advantage * c, worse), worse)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28)])
def test_delta_is_trl_s_and_the_dual_clip_is_verl_s(low, high):
    batch = two_completions(RATIOS)
    ratio, advantages = torch.exp(batch.log_ratio), torch.tensor([[0.7, -0.7]], dtype=torch.float64)
    for delta in (None, 1.1, 1.5, 4.0):
        ours, _ = ClippedSurrogate(low, high, delta=delta)(batch, advantages)
        expected = trl_token_loss(ratio, advantages.unsqueeze(-1), low, high, delta)
        assert torch.equal(ours, expected)
    for c in (1.5, 3.0, 10.0):
        ours, _ = ClippedSurrogate(low, high, dual_clip=c)(batch, advantages)
        assert torch.equal(ours, verl_token_loss(ratio, advantages.unsqueeze(-1), low, high, c))
        # A huge ratio on a bad token has no gradient any more, and a good token is as before.
        (gradient,) = torch.autograd.grad(ours.sum(), batch.log_probs, retain_graph=True)
        assert gradient[0, 1, -1] == 0
        assert gradient[0, 1, 0] == 0  # PPO's own clip, from below
        assert gradient[0, 0, 0] != 0


def test_both_are_off_by_default_and_settings_of_every_method_with_ppo_s_clip():
    batch = random_batch(spread=2.0)
    with_both = {name for name in METHODS if {"delta", "dual_clip"} <= set(method_options(name))}
    assert {"grpo", "relax", "dapo", "gspo", "dr_grpo", "clip_cov"} <= with_both
    for name in ("grpo", "dapo", "dr_grpo", "gspo"):
        plain = build_objective(name)(batch).loss
        assert torch.equal(build_objective(name, delta=1e9, dual_clip=1e9)(batch).loss, plain)
        assert not torch.equal(build_objective(name, dual_clip=1.0001)(batch).loss, plain)
    # Where a method has a step of that name, it is not the bound.
    assert method_options("adaptive_entropy_bonus")["delta"] == 0.005
    for option in ("delta", "dual_clip"):
        options: dict[str, Any] = {option: 0.5}
        with pytest.raises(ConfigError, match=f"{option} bounds the ratio from above and must exceed 1, but is 0.5"):
            build_objective("grpo", **options)


def verl_k3(log_probs, reference):
    """verl, core_algos.kl_penalty_forward, "low_var_kl"."""
    kl = torch.clamp(reference - log_probs, min=-20, max=20)
    return torch.clamp(torch.exp(kl) - kl - 1, min=-10, max=10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k3_is_bounded_as_in_verl(dtype):
    reference = torch.zeros(7, dtype=dtype)
    log_probs = torch.tensor([-99.0, -19.0, -2.0, -0.1, 0.0, 0.3, 30.0], dtype=dtype, requires_grad=True)
    ours = token_kl(log_probs, reference)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, verl_k3(log_probs, reference))
    assert ours[0] == 10
    (gradient,) = torch.autograd.grad(ours.sum(), log_probs)
    assert gradient.isfinite().all()
    assert gradient[0] == gradient[1] == 0
    inside = log_probs.detach()[2:6]
    torch.testing.assert_close(gradient[2:6], 1 - torch.exp(-inside))


def test_one_token_far_below_the_reference_leaves_the_loss_a_number():
    """The reported case: 99 nats below the reference, in float32, gave an infinite loss."""
    log_probs = torch.full((1, 2, 3), -1.0)
    log_probs[0, 0, 0] = -100.0
    batch = RolloutBatch(
        log_probs.requires_grad_(),
        log_probs.detach(),
        torch.ones(1, 2, 3, dtype=torch.bool),
        torch.tensor([[1.0, 0.0]]),
        ref_log_probs=torch.full((1, 2, 3), -1.0),
    )
    out = build_objective("grpo", beta=0.1)(batch)
    (gradient,) = torch.autograd.grad(out.loss, log_probs)
    assert out.loss.isfinite()
    assert gradient.isfinite().all()
    assert out.metrics["kl"] == pytest.approx(10 / 6)
