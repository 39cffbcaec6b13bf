"""Covariance and the change of entropy: a softmax bandit by hand and by finite steps, and small batches by numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from relax_rl.analysis import bandit_entropy_change, carriers, change_agreement, covariances
from relax_rl.errors import DataError


def entropy_of(logits: np.ndarray) -> float:
    return float(stats.entropy(special.softmax(logits)))


def test_two_armed_bandit_by_hand() -> None:
    # pi = (3/4, 1/4), A = (1, -1): A minus its mean 1/2 is (1/2, -3/2), and log pi differs by log 3.
    # Cov(log pi, A) = (3/4)(1/4) log 3 x 2; of (pi A) with pi (1/2, -3/2) = (3/8, -3/8): (3/4)(1/4) log 3 x 3/4.
    logits, advantages = np.log([0.75, 0.25]), [1.0, -1.0]
    assert bandit_entropy_change(logits, advantages, 0.1, natural=True) == pytest.approx(-0.1 * 3 / 8 * math.log(3))
    assert bandit_entropy_change(logits, advantages, 0.1) == pytest.approx(-0.1 * 9 / 64 * math.log(3))
    assert bandit_entropy_change(logits, [-1.0, 1.0], 0.1) > 0  # the rare arm is better: entropy rises


@pytest.mark.parametrize("natural", [False, True])
def test_the_theorem_holds_for_small_steps(natural: bool) -> None:
    generator = np.random.default_rng(0)
    logits, advantages = generator.normal(size=50), generator.normal(size=50)
    probabilities = special.softmax(logits)
    gain = advantages - probabilities @ advantages
    step = 1e-4 * (gain if natural else probabilities * gain)
    measured = entropy_of(logits + step) - entropy_of(logits)
    assert bandit_entropy_change(logits, advantages, 1e-4, natural=natural) == pytest.approx(measured, rel=2e-3)


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    mask = np.arange(7) < generator.integers(2, 8, size=(3, 4, 1))
    return generator.normal(-1, 0.5, size=(3, 4, 7)), generator.normal(size=(3, 4)), mask


def test_the_three_forms_are_numpys_covariances(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    log_probs, advantages, mask = batch
    found = covariances(log_probs, advantages, mask)
    each = np.broadcast_to(advantages[..., None], mask.shape)
    assert found.token == pytest.approx(np.cov(log_probs[mask], each[mask], bias=True)[0, 1])
    groups = [np.cov(log_probs[p][mask[p]], each[p][mask[p]], bias=True)[0, 1] for p in range(3)]
    assert found.group == pytest.approx(np.mean(groups))
    means = np.array([[log_probs[p, g][mask[p, g]].mean() for g in range(4)] for p in range(3)])
    bandits = [np.cov(means[p], advantages[p], bias=True)[0, 1] for p in range(3)]
    assert found.bandit == pytest.approx(np.mean(bandits))
    assert found.terms[mask].mean() == pytest.approx(found.token)
    assert not found.terms[~mask].any()


def test_what_is_masked_does_not_matter(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    log_probs, advantages, mask = batch
    spoilt = np.where(mask, log_probs, np.nan)
    found, expected = covariances(spoilt, advantages, mask), covariances(log_probs, advantages, mask)
    assert (found.token, found.group, found.bandit) == (expected.token, expected.group, expected.bandit)


def test_advantages_of_tokens_are_taken_as_they_are(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    log_probs, advantages, mask = batch
    each = np.broadcast_to(advantages[..., None], mask.shape)
    assert covariances(log_probs, each, mask).bandit == pytest.approx(covariances(log_probs, advantages, mask).bandit)
    found = covariances(log_probs, each * np.arange(7), mask)
    assert found.token == pytest.approx(np.cov(log_probs[mask], (each * np.arange(7))[mask], bias=True)[0, 1])


def test_carriers_by_hand() -> None:
    terms = np.array([4.0, 1.0, -1.0, 0.0, 9.0]).reshape(1, 1, 5)
    mask = np.array([True, True, True, True, False]).reshape(1, 1, 5)
    quarter, half, everything = carriers(terms, mask, (0.25, 0.5, 1.0))
    assert (quarter.mean, quarter.of_total) == (4.0, 1.0)
    assert (half.mean, half.of_total) == (2.5, 1.25)
    assert (everything.mean, everything.of_total) == (1.0, 1.0)
    assert carriers(terms, mask, (0.001,))[0].mean == 4.0  # one token at least


def test_agreement_finds_the_step_size_of_a_simulated_bandit() -> None:
    """A softmax bandit under the natural gradient: the covariance of each step foretells the next entropy."""
    generator = np.random.default_rng(2)
    logits, advantages = generator.normal(size=20), generator.normal(size=20)
    covariance, entropy = [], []
    for _ in range(40):
        covariance.append(-bandit_entropy_change(logits, advantages, 1.0, natural=True))
        entropy.append(entropy_of(logits))
        probabilities = special.softmax(logits)
        logits = logits + 0.02 * (advantages - probabilities @ advantages)
    found = change_agreement(covariance, entropy)
    assert found.step_size == pytest.approx(0.02, rel=0.05)
    assert found.correlation > 0.95
    assert found.num_updates == 39
    reversed_ = change_agreement(-np.array(covariance), entropy)
    assert reversed_.step_size == pytest.approx(-found.step_size)
    assert reversed_.same_sign <= 1 - found.same_sign


def test_a_covariance_is_held_against_the_change_that_follows_it() -> None:
    covariance = np.random.default_rng(3).normal(size=30)
    entropy = 1 - 0.05 * np.concatenate([[0.0], np.cumsum(covariance)[:-1]])
    found = change_agreement(covariance, entropy)
    assert (found.step_size, found.correlation, found.same_sign) == pytest.approx((0.05, 1, 1))
    with_gap = change_agreement(np.where(np.arange(30) == 7, np.nan, covariance), entropy)
    assert with_gap.num_updates == 28
    assert with_gap.step_size == pytest.approx(0.05)


def test_what_cannot_be_read_is_refused(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    log_probs, advantages, mask = batch
    with pytest.raises(DataError, match=r"\(P, G, T\)"):
        covariances(log_probs[0], advantages, mask)
    with pytest.raises(DataError, match="every completion needs a token"):
        covariances(log_probs, advantages, np.zeros_like(mask))
    with pytest.raises(DataError, match="finite"):
        covariances(np.where(mask, np.nan, 0.0), advantages, mask)
    with pytest.raises(DataError, match="four updates"):
        change_agreement([0.0] * 5, [0.3, 0.2, 0.2, 0.1, 0.1])
    with pytest.raises(DataError, match="no token"):
        carriers(log_probs, np.zeros_like(mask))
    with pytest.raises(DataError, match="a logit and an advantage"):
        bandit_entropy_change([0.0, 1.0], [1.0], 0.1)
