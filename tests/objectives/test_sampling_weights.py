"""The correction for an inference engine, which samples from slightly other probabilities than it is trained on."""

import dataclasses

import pytest
import torch

from objectives.batches import random_batch, two_completions
from relax_rl.objectives import build_objective


def with_weights(batch, weights):
    return dataclasses.replace(batch, sampling_weights=weights)


def test_each_tokens_loss_is_multiplied_by_its_weight():
    ratio = [[1.0, 1.1], [0.9, 1.0]]
    weights = torch.tensor([[[2.0, 0.5], [0.0, 1.0]]], dtype=torch.float64)
    plain, weighted = two_completions(ratio), with_weights(two_completions(ratio), weights)
    objective = build_objective("grpo", beta=0.0)
    objective(plain).loss.backward()
    found = objective(weighted)
    found.loss.backward()
    torch.testing.assert_close(weighted.log_probs.grad, plain.log_probs.grad * weights)
    advantage = found.per_completion["advantage"][0].tolist()
    terms = [advantage[0] * (2.0 * 1.0 + 0.5 * 1.1) / 2, advantage[1] * (0.0 * 0.9 + 1.0 * 1.0) / 2]
    assert found.loss.item() == pytest.approx(-sum(terms) / 2, rel=1e-9)


@pytest.mark.parametrize("method", ["grpo", "dapo", "dr_grpo", "gspo", "cispo", "kl_cov", "entropy_bonus"])
def test_weights_of_one_change_nothing_and_terms_beside_the_policys_are_not_weighted(method):
    objective = build_objective(method)
    batch = random_batch()
    loss = objective(batch).loss
    shape = batch.log_probs.shape
    assert torch.equal(objective(with_weights(batch, torch.ones(shape, dtype=torch.float64))).loss, loss)
    # What is left without the policy's loss counts once, whatever the weights of the tokens.
    rest = objective(with_weights(batch, torch.zeros(shape, dtype=torch.float64))).loss
    double = objective(with_weights(batch, torch.full((*shape[:2], 1), 2.0, dtype=torch.float64))).loss
    torch.testing.assert_close(double, 2 * loss - rest)
