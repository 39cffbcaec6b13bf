"""What an update reports of its tokens, against numpy."""

import numpy as np
import pytest
import torch

from objectives.batches import random_batch
from relax_rl.training.trl.update_sums import UpdateSums


class Alone:
    """One process: a sum over the processes is its own."""

    @staticmethod
    def reduce(tensor, reduction):
        assert reduction == "sum"
        return tensor


def test_entropy_and_covariance_are_means_over_the_tokens_of_all_micro_batches():
    sums = UpdateSums()
    parts = []
    for seed, loss in ((0, 1.0), (1, 4.0)):
        batch = random_batch(seed)
        advantages = torch.randn(batch.rewards.shape, generator=torch.Generator().manual_seed(seed))
        sums.add(batch, advantages, {"loss": loss})
        mask = batch.mask.numpy()
        advantage = np.broadcast_to(advantages.numpy()[..., None], mask.shape)
        parts.append([values[mask] for values in (batch.entropy.detach().numpy(), batch.log_probs.detach(), advantage)])
    entropy, log_probs, advantage = (np.concatenate(column) for column in zip(*parts, strict=True))
    report = sums.report(Alone(), step=3, num_steps=9)
    assert report.entropy == pytest.approx(entropy.mean(), rel=1e-12)
    assert report.covariance == pytest.approx(np.cov(log_probs, advantage, bias=True)[0, 1], rel=1e-9)
    every = torch.cat([torch.randn((3, 4), generator=torch.Generator().manual_seed(seed)).flatten() for seed in (0, 1)])
    assert report.advantage_rms == pytest.approx(float(every.double().square().mean().sqrt()), rel=1e-6)
    assert (report.step, report.num_steps, report.metrics) == (3, 9, {"loss": 2.5})
