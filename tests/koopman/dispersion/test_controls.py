"""What comes with a dispersion, and its two controls: length, and time put in random order."""

import warnings

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dispersion_from_lifted, dynamic_spectral_dispersion, snapshot_pairs, surrogate_null
from relax_rl.koopman.dispersion.controls import dispersion_by_length, held_out_heterogeneity
from relax_rl.koopman.dispersion.estimators import LARGE_MODULUS, dispersion_from_gram
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.eigenpairs import SPURIOUS_RESIDUAL

ESTIMATORS = ("paper", "singular", "robust")


@pytest.fixture(scope="module")
def states(linear_system) -> torch.Tensor:
    return linear_system(0.3, 80, 5, seed=1).float()


@pytest.fixture
def mask() -> torch.Tensor:
    """Lengths 80, 45, 60 with a hole, 10 (fewer than observables) and 70."""
    mask = torch.arange(80) < torch.tensor([80, 45, 60, 10, 70])[:, None]
    mask[2, 30:33] = False
    return mask


def printed_residuals(lifted: np.ndarray, pairs: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = lifted[:-1][pairs], lifted[1:][pairs]
    matrix = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y) if ridge else np.linalg.pinv(x) @ y
    values, vectors = np.linalg.eig(matrix)
    return np.abs(values), np.linalg.norm((y - values[:, None, None] * x) @ vectors.T[:, :, None], axis=1)[
        :, 0
    ] / np.linalg.norm(x @ vectors, axis=0)


@pytest.mark.parametrize(("estimator", "ridge"), [("paper", 0.0), ("singular", 1e-3)])
def test_residuals_and_radius_are_those_of_the_operator(states, mask, dictionary, estimator, ridge) -> None:
    result = dynamic_spectral_dispersion(states, mask, dictionary, estimator)
    assert result.dictionary_digest == dictionary.digest
    assert result.defined_share == pytest.approx(0.8)
    lifted, pairs = dictionary(states).double().numpy(), snapshot_pairs(mask).numpy()
    for row in (0, 1, 2, 4):
        moduli, residuals = printed_residuals(lifted[row], pairs[row], ridge)
        assert result.spectral_radius[row].item() == pytest.approx(moduli.max(), rel=1e-6)
        assert result.median_residual[row].item() == pytest.approx(np.median(residuals), rel=1e-5)
        assert result.spurious_share[row].item() == pytest.approx((residuals > SPURIOUS_RESIDUAL).mean())
    assert result.median_residual[3].isnan()
    assert result.spurious_share[3].isnan()
    from_gram = dispersion_from_gram(gram_statistics(dictionary(states), snapshot_pairs(mask)), estimator)
    torch.testing.assert_close(from_gram.median_residual, result.median_residual, equal_nan=True)
    assert from_gram.dictionary_digest is None


def test_robust_residuals_follow_from_its_moduli(states, mask, dictionary) -> None:
    result = dynamic_spectral_dispersion(states, mask, dictionary, "robust")
    assert result.spectral_radius.max() <= 1
    for row in (0, 1, 2, 4):
        # All but the largest modulus have at least this residual.
        assert (1 - result.spectral_radius[row] ** 2).sqrt() <= result.median_residual[row] <= 1
        assert 0 <= result.spurious_share[row] <= 1
    assert result.median_residual[3].isnan()


def test_an_eigenvalue_that_no_trajectory_has_is_warned_about() -> None:
    rng = np.random.default_rng(0)
    growing = torch.from_numpy(1.6 ** np.arange(40)[:, None] * rng.standard_normal(3) + rng.standard_normal((40, 3)))
    mask = torch.ones(1, 40, dtype=torch.bool)
    with pytest.warns(RuntimeWarning, match="modulus above 1.5"):
        assert dispersion_from_lifted(growing[None], mask).spectral_radius > LARGE_MODULUS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dispersion_from_lifted(growing[None], mask, "robust")
        dispersion_from_lifted(torch.from_numpy(rng.standard_normal((1, 40, 3))), mask)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_curve_is_the_dispersion_of_the_first_tokens(states, mask, dictionary, estimator) -> None:
    curve = dispersion_by_length(states, mask, dictionary, [40, 57], estimator)
    for length, measured in zip((40, 57), curve, strict=True):
        for row in range(5):
            tokens = mask[row].nonzero().squeeze(-1)[:length]
            if len(tokens) < length:
                assert not measured.is_defined[row]
                continue
            stop = int(tokens[-1]) + 1
            alone = dynamic_spectral_dispersion(
                states[row : row + 1, :stop], mask[row : row + 1, :stop], dictionary, estimator
            )
            torch.testing.assert_close(measured.values[row], alone.values[0], rtol=1e-6, atol=1e-7)  # float32 lifts
        assert measured.dictionary_digest == dictionary.digest
    with pytest.raises(ConfigError, match="at least 2"):
        dispersion_by_length(states, mask, dictionary, [1])


def test_surrogates_keep_the_tokens_and_destroy_their_order(states, mask, dictionary) -> None:
    null = surrogate_null(states, mask, dictionary, num_surrogates=19)
    assert null.values.shape == (19, 5)
    assert torch.equal(null.observed.values, dynamic_spectral_dispersion(states, mask, dictionary).values)
    assert (null.p_values == 0.1).sum() == 3  # all 19 on one side
    assert null.p_values[3].isnan()
    assert null.z_scores[3].isnan()
    again = surrogate_null(states, mask, dictionary, num_surrogates=19)
    assert torch.equal(again.values, null.values)
    assert not torch.equal(surrogate_null(states, mask, dictionary, num_surrogates=2, seed=1).values, null.values[:2])


def test_noise_is_not_told_from_its_surrogates(dictionary) -> None:
    noise = torch.randn((20, 60, 16), generator=torch.Generator().manual_seed(0))
    null = surrogate_null(noise, torch.ones(20, 60, dtype=torch.bool), dictionary, num_surrogates=19)
    assert (null.p_values <= 0.1).sum() <= 6
    assert null.z_scores.abs().median() < 1.5


def test_what_stands_behind_the_mask_never_enters_a_surrogate(states, mask, dictionary) -> None:
    spoiled = torch.where(mask.unsqueeze(-1), states, float("nan"))
    clean = surrogate_null(states, mask, dictionary, num_surrogates=3)
    assert torch.equal(surrogate_null(spoiled, mask, dictionary, num_surrogates=3).values, clean.values)
    with pytest.raises(ConfigError, match="at least 2"):
        surrogate_null(states, mask, dictionary, num_surrogates=1)


# Pairs that took no part ----------------------------------------------------------------------------------------------


def test_held_out_heterogeneity_orders_systems_and_leaves_noise_below(linear_system) -> None:
    means = [float(held_out_heterogeneity(linear_system(spread, 200, 32, seed=3)).mean()) for spread in (0, 0.3, 0.45)]
    assert means[0] < means[1] < means[2] <= 0.25
    noise = torch.randn(32, 200, 16, generator=torch.Generator().manual_seed(0))
    # Sampling error of a correlation over 16 pairs, and nothing else: about 1/16 of variance at most.
    assert float(held_out_heterogeneity(noise).mean()) < 1 / 16


def test_held_out_heterogeneity_is_what_numpy_makes_of_one_window() -> None:
    rng = np.random.default_rng(2)
    lifted = rng.standard_normal((33, 5)).cumsum(0)
    x, y = lifted[:-1], lifted[1:]
    mean = (x.mean(0) + y.mean(0)) / 2
    x, y = x - mean, y - mean
    values, vectors = np.linalg.eigh(x.T @ x + y.T @ y)
    x, y = (side @ (vectors[:, -3:] / np.sqrt(values[-3:])) for side in (x, y))
    variances = []
    for fold in (0, 1):
        a, b, p, q = x[fold::2], y[fold::2], x[1 - fold :: 2], y[1 - fold :: 2]
        modes = np.linalg.eig(np.linalg.inv((a.T @ a + b.T @ b) / 2) @ (a.T @ b))[1]
        p, q = p @ modes, q @ modes
        variances.append(np.var(abs((p.conj() * q).sum(0)) / ((abs(p) ** 2 + abs(q) ** 2) / 2).sum(0)))
    found = held_out_heterogeneity(torch.from_numpy(lifted).unsqueeze(0), rank=3)
    np.testing.assert_allclose(found.numpy(), [np.mean(variances)], rtol=1e-9)


def test_held_out_heterogeneity_needs_a_window() -> None:
    with pytest.raises(DataError, match="T above 32"):
        held_out_heterogeneity(torch.zeros(2, 32, 4))
