"""GRPO by hand: small numbers worked out on paper."""

import math

import pytest
import torch

from objectives.batches import present
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RolloutBatch, UpdateTotals, build_objective
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.kl import token_kl


def batch_of(log_probs, rewards, mask=None, old=None, **more):
    log_probs = torch.as_tensor(log_probs, dtype=torch.float64)
    return RolloutBatch(
        log_probs=log_probs,
        old_log_probs=log_probs.detach().clone() if old is None else torch.as_tensor(old, dtype=torch.float64),
        mask=torch.ones(log_probs.shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask),
        rewards=torch.as_tensor(rewards, dtype=torch.float64),
        **more,
    )


def random_batch(seed=0, prompts=3, group=4, tokens=6, requires_grad=True, **more):
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts, group, tokens)
    old = -torch.rand(shape, generator=generator, dtype=torch.float64)
    log_probs = (old + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_(requires_grad)
    lengths = torch.randint(1, tokens + 1, shape[:2], generator=generator)
    return RolloutBatch(
        log_probs=log_probs,
        old_log_probs=old,
        mask=torch.arange(tokens) < lengths.unsqueeze(-1),
        rewards=torch.randint(0, 2, shape[:2], generator=generator).float(),
        ref_log_probs=old - 0.1 * torch.rand(shape, generator=generator, dtype=torch.float64),
        **more,
    )


def test_advantage_of_two_right_out_of_eight_is_the_published_number():
    batch = batch_of(torch.zeros(1, 8, 1), [[1.0, 1, 0, 0, 0, 0, 0, 0]])
    advantages = GroupRelativeAdvantage(epsilon=1e-6)(batch)
    # mean 1/4, unbiased std sqrt(8/7 * 3/16) = 0.46291
    assert advantages[0, 0].item() == pytest.approx(1.6202, abs=5e-5)
    assert advantages[0, 2].item() == pytest.approx(-0.5401, abs=5e-5)


def test_an_unscored_completion_takes_no_part_in_the_baseline():
    with_nan = batch_of(torch.zeros(1, 4, 1), [[1.0, 0.0, math.nan, 0.0]])
    without = batch_of(torch.zeros(1, 3, 1), [[1.0, 0.0, 0.0]])
    advantages = GroupRelativeAdvantage()(with_nan)
    assert advantages[0, 2].item() == 0.0
    assert torch.equal(advantages[0, [0, 1, 3]], GroupRelativeAdvantage()(without)[0])


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [math.nan, math.nan, math.nan]])
def test_equal_or_missing_rewards_give_no_advantage_and_a_finite_gradient(rewards):
    log_probs = torch.zeros(1, 3, 1, dtype=torch.float64, requires_grad=True)
    build_objective("grpo")(batch_of(log_probs, [rewards])).loss.backward()
    assert torch.equal(present(log_probs.grad), torch.zeros_like(log_probs))


def test_loss_and_gradient_worked_out_by_hand():
    # Rewards 1 and 0: mean 1/2, std sqrt(1/2), so A = +-a with a = 0.5 / (sqrt(0.5) + 1e-4).
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    ratio = torch.tensor([[[1.1, 1.3], [0.7, 1.0]]], dtype=torch.float64)
    log_probs = ratio.log().requires_grad_()
    batch = batch_of(log_probs, [[1.0, 0.0]], mask=[[[True, True], [True, False]]], old=torch.zeros(1, 2, 2))
    out = build_objective("grpo")(batch)
    # First: tokens -1.1 a and -min(1.3, 1.2) a; second, one token: -min(-0.7 a, -0.8 a) = 0.8 a.
    expected = 0.5 * ((-1.1 * a - 1.2 * a) / 2 + 0.8 * a)
    assert out.loss.item() == pytest.approx(expected, rel=1e-12)
    out.loss.backward()
    # d r / d log_prob = r; the clipped tokens carry nothing, the masked one neither.
    assert log_probs.grad.flatten().tolist() == pytest.approx([-1.1 * a / 4, 0.0, 0.0, 0.0], rel=1e-12)
    assert out.metrics["clip_ratio/high_mean"] == pytest.approx(1 / 3)
    assert out.metrics["clip_ratio/low_mean"] == pytest.approx(1 / 3)


def test_kl_estimators_by_hand():
    log_probs, ref = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    d = math.log(2)
    assert token_kl(log_probs, ref, "k1").item() == pytest.approx(d)
    assert token_kl(log_probs, ref, "k2").item() == pytest.approx(d * d / 2)
    assert token_kl(log_probs, ref, "k3").item() == pytest.approx(0.5 - 1 + d)
    with pytest.raises(ConfigError, match="k1, k2 or k3"):
        token_kl(log_probs, ref, "k4")  # type: ignore[arg-type]


def test_expected_gradients_of_the_kl_estimators_are_those_the_docstring_claims():
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([0.1, 0.5, -0.4], dtype=torch.float64), -1)

    def expected_gradient(estimator):
        log_probs = torch.log_softmax(logits, -1)
        weights = log_probs.detach().exp()
        return torch.autograd.grad((weights * token_kl(log_probs, ref, estimator)).sum(), logits)[0]

    log_probs = torch.log_softmax(logits, -1)
    forward = torch.autograd.grad((log_probs.exp() * (log_probs - ref)).sum(), logits, retain_graph=True)[0]
    backward = torch.autograd.grad((ref.exp() * (ref - log_probs)).sum(), logits)[0]
    torch.testing.assert_close(expected_gradient("k1"), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(expected_gradient("k2"), forward)
    torch.testing.assert_close(expected_gradient("k3"), backward)


def test_plain_kl_is_the_mean_over_completions_of_the_mean_over_tokens():
    batch = random_batch()
    d = batch.log_probs - present(batch.ref_log_probs)
    k3 = torch.exp(-d) - 1 + d
    per_completion = (k3 * batch.mask).sum(-1) / batch.mask.sum(-1)
    difference = build_objective("grpo", beta=0.5)(batch).loss - build_objective("grpo")(batch).loss
    torch.testing.assert_close(difference, 0.5 * per_completion.mean())


def test_micro_batches_add_up_to_the_whole():
    whole = random_batch(prompts=4)
    objective = build_objective("grpo", beta=0.1)
    expected = objective(whole).loss
    (gradient,) = torch.autograd.grad(expected, whole.log_probs)
    totals = UpdateTotals(4, 16, float(whole.mask.sum()))
    loss, gradients = 0.0, []
    for part in (slice(0, 1), slice(1, 4)):
        log_probs = whole.log_probs[part].detach().requires_grad_()
        micro = RolloutBatch(
            log_probs,
            whole.old_log_probs[part],
            whole.mask[part],
            whole.rewards[part],
            ref_log_probs=whole.ref_log_probs[part],
            totals=totals,
        )
        share = objective(micro).loss
        share.backward()
        loss += share.detach()
        gradients.append(log_probs.grad)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(torch.cat(gradients), gradient)


def test_what_is_behind_the_mask_does_not_matter():
    batch = random_batch()
    poisoned = torch.where(batch.mask, batch.log_probs.detach(), float("nan")).requires_grad_()
    ref = torch.where(batch.mask, present(batch.ref_log_probs), float("inf"))
    objective = build_objective("grpo", beta=0.1)
    loss = objective(RolloutBatch(poisoned, batch.old_log_probs, batch.mask, batch.rewards, ref_log_probs=ref)).loss
    torch.testing.assert_close(loss, objective(batch).loss)
    loss.backward()
    assert poisoned.grad.isfinite().all()
    assert torch.equal(poisoned.grad[~batch.mask], torch.zeros(int((~batch.mask).sum()), dtype=torch.float64))


def test_a_completion_without_tokens_adds_nothing():
    batch = random_batch()
    mask = batch.mask.clone()
    mask[0, 0] = False
    loss = build_objective("grpo")(RolloutBatch(batch.log_probs, batch.old_log_probs, mask, batch.rewards)).loss
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(batch.log_probs.grad[0, 0], torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"log_probs": torch.zeros(2, 3)}, "log_probs"),
        ({"mask": torch.ones(1, 2, 4, dtype=torch.bool)}, "mask"),
        ({"rewards": torch.zeros(2)}, "rewards"),
        ({"hidden_states": torch.zeros(1, 2, 4, 8)}, "hidden_states"),
    ],
)
def test_shapes_that_do_not_agree_are_named(change, named):
    fields = {
        "log_probs": torch.zeros(1, 2, 3),
        "old_log_probs": torch.zeros(1, 2, 3),
        "mask": torch.ones(1, 2, 3, dtype=torch.bool),
        "rewards": torch.zeros(1, 2),
    }
    with pytest.raises(DataError, match=named):
        RolloutBatch(**(fields | change))


def test_unknown_names_come_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'relax'"):
        build_objective("relx")
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        build_objective("relax", alhpa=0.1)
    with pytest.raises(ConfigError, match=r"objective\.alpha"):
        build_objective("relax", alpha="much")
    with pytest.raises(ConfigError, match="beta must not be negative"):
        build_objective("grpo", beta=-1.0)
