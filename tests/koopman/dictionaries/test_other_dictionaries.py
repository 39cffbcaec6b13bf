"""Dictionaries beside the paper's: each against its formula in numpy, one protocol, one file format."""

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion, koopman_eigenvalues, load_dictionary
from relax_rl.koopman.dictionaries.fixed import (
    IdentityDictionary,
    PolynomialDictionary,
    RadialBasisDictionary,
    RandomFourierDictionary,
)
from relax_rl.koopman.dictionaries.network import NetworkDictionary
from relax_rl.koopman.dictionaries.protocol import Dictionary

KINDS = (
    IdentityDictionary,
    PolynomialDictionary,
    RadialBasisDictionary,
    RandomFourierDictionary,
    NetworkDictionary,
    KoopmanDictionary,
)


@pytest.fixture(scope="module")
def trajectories() -> list[torch.Tensor]:
    """Ragged, of width 4; one channel is a thousand times the others, and one never changes."""
    rng = np.random.default_rng(0)
    units = np.array([1.0, 1000.0, 1.0, 0.0])
    return [torch.from_numpy(0.1 * rng.standard_normal((30 + i, 4)).cumsum(0) * units + 5.0).float() for i in range(8)]


@pytest.fixture(scope="module")
def fitted(trajectories) -> dict[type, Any]:
    options: dict[type, dict[str, Any]] = {
        NetworkDictionary: {"num_learned": 3, "steps": 2, "width": 8},
        KoopmanDictionary: {"steps": 2},
    }
    counted = (RadialBasisDictionary, RandomFourierDictionary, KoopmanDictionary)
    return {
        kind: kind.fit(trajectories, **({"num_observables": 6} if kind in counted else {}), **options.get(kind, {}))
        for kind in KINDS
    }


def standardized(states: torch.Tensor, trajectories: list[torch.Tensor]) -> np.ndarray:
    everything = torch.cat(trajectories).double().numpy()
    deviation = everything.std(0, ddof=1)
    return (states.double().numpy() - everything.mean(0)) / np.where(deviation > 0, deviation, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_dictionary_and_its_file_gives_it_back(kind, fitted, trajectories, tmp_path) -> None:
    dictionary = fitted[kind]
    assert isinstance(dictionary, Dictionary)
    assert dictionary.hidden_size == 4
    lifted = dictionary(trajectories[0].unsqueeze(0))
    assert lifted.shape == (1, 30, dictionary.num_observables)
    assert lifted.dtype == torch.float32
    assert dictionary.report is not None
    assert dictionary.report.num_pairs == sum(len(t) - 1 for t in trajectories)
    dictionary.save(tmp_path / "file")
    loaded = load_dictionary(tmp_path / "file")
    assert type(loaded) is kind
    assert loaded.digest == dictionary.digest
    assert loaded.report == dictionary.report
    assert torch.equal(loaded(trajectories[0].unsqueeze(0)), lifted)
    if kind is not KoopmanDictionary:
        with pytest.raises(DataError, match=r"kind .* load_dictionary"):
            KoopmanDictionary.load(tmp_path / "file")


@pytest.mark.parametrize("kind", KINDS)
def test_lifts_in_float32_under_autocast_and_with_a_gradient(kind, fitted, trajectories) -> None:
    dictionary = fitted[kind]
    states = trajectories[0].clone().requires_grad_()
    plain = dictionary(states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dictionary(states), plain)
    (gradient,) = torch.autograd.grad(plain.square().sum(), states)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    with pytest.raises(DataError, match="width 4"):
        dictionary(torch.zeros(2, 5))


def test_digests_differ_by_kind_seed_setting_and_standardisation(fitted, trajectories) -> None:
    digests = [dictionary.digest for dictionary in fitted.values()]
    digests += [
        IdentityDictionary.fit(trajectories, standardize=False).digest,
        IdentityDictionary.fit([2 * t for t in trajectories]).digest,
        RandomFourierDictionary.fit(trajectories, 6, seed=1).digest,
        RandomFourierDictionary.fit(trajectories, 6, width=3.0).digest,
        PolynomialDictionary.fit(trajectories, degree=1).digest,
    ]
    assert len(set(digests)) == len(digests)


def test_identity_and_polynomials(fitted, trajectories) -> None:
    states = trajectories[2]
    x = standardized(states, trajectories)
    np.testing.assert_allclose(fitted[IdentityDictionary](states), x, atol=1e-4)
    ones = np.concatenate([np.ones((len(x), 1)), x], 1)
    expected = np.stack([ones[:, i] * ones[:, j] for i, j in combinations_with_replacement(range(5), 2)], 1)
    np.testing.assert_allclose(fitted[PolynomialDictionary](states), expected, atol=1e-3)
    assert fitted[PolynomialDictionary].num_observables == 15


def test_radial_basis_and_fourier_features_follow_their_kernels(trajectories) -> None:
    x = standardized(trajectories[0], trajectories)
    basis = RadialBasisDictionary.fit(trajectories, 6, width=2.0)
    centres = basis._tensors["centres"].double().numpy()
    squares = ((x[:, None] - centres) ** 2).sum(-1)
    np.testing.assert_allclose(basis(trajectories[0]), np.exp(-squares / 8), atol=1e-3)
    everything = standardized(torch.cat(trajectories), trajectories)
    assert np.abs(everything[:, None] - centres).sum(-1).min(0).max() < 1e-4  # each is a state

    few, many = (
        RandomFourierDictionary.fit(trajectories * 20, size, width=2.0)(trajectories[0]).double().numpy()
        for size in (200, 4000)
    )
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 8)
    assert np.abs(many @ many.T - kernel).max() < 0.12
    assert np.abs(few @ few.T - kernel).max() > np.abs(many @ many.T - kernel).max()


def test_a_width_that_is_not_given_is_the_median_distance(trajectories) -> None:
    basis = RadialBasisDictionary.fit(trajectories, 6)
    x = torch.from_numpy(standardized(torch.cat(trajectories), trajectories))
    assert basis._settings["width"] == pytest.approx(float(torch.pdist(x).median()), rel=1e-3)


def test_a_linear_system_in_monomials_has_the_products_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(1)
    matrix = np.array([[0.9, 0.0], [0.1, 0.8]])
    starts = rng.uniform(-1, 1, (40, 2))
    trajectories = [torch.from_numpy(np.stack([s, s @ matrix, s @ matrix @ matrix])).float() for s in starts]
    dictionary = PolynomialDictionary.fit(trajectories, degree=3, standardize=False)
    spectrum = koopman_eigenvalues([dictionary(t) for t in trajectories])
    known = [0.512, 0.576, 0.64, 0.648, 0.72, 0.729, 0.8, 0.81, 0.9, 1]
    np.testing.assert_allclose(np.sort(spectrum.eigenvalues.real), known, atol=1e-4)


def test_the_network_holds_the_constant_and_the_state_and_learns_a_square() -> None:
    # x' = 0.9 x, z' = 0.5 z + x^2: one more observable, x^2, closes the span.
    rng = np.random.default_rng(2)
    trajectories = []
    for x, z in rng.uniform(-1, 1, (30, 2)):
        states = [(x, z)]
        for _ in range(11):
            x, z = 0.9 * x, 0.5 * z + x * x
            states.append((x, z))
        trajectories.append(torch.tensor(states))
    dictionary = NetworkDictionary.fit(
        trajectories, num_learned=1, steps=60, width=16, learning_rate=3e-3, batch_size=32
    )
    lifted = dictionary(trajectories[0])
    assert (lifted[:, 0] == 1).all()
    np.testing.assert_allclose(lifted[:, 1:3], standardized(trajectories[0], trajectories), atol=1e-4)
    report = dictionary.report
    assert report is not None
    assert report.num_validation == 6
    print(report)
    assert report.validation_before is not None
    assert report.validation_after < 0.5 * report.validation_before
    assert report.best_step > 0
    before = NetworkDictionary.fit(trajectories, num_learned=3, steps=0, width=16)
    assert before.digest != dictionary.digest
    again = NetworkDictionary.fit(trajectories, num_learned=3, steps=2, width=16)
    assert again.digest == NetworkDictionary.fit(trajectories, num_learned=3, steps=2, width=16).digest


def test_dispersion_takes_any_dictionary(fitted, trajectories) -> None:
    states = torch.stack([t[:30] for t in trajectories])
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    for dictionary in fitted.values():
        assert dynamic_spectral_dispersion(states, mask, dictionary).is_defined.all()


def test_mistakes_are_named(trajectories) -> None:
    with pytest.raises(ConfigError, match="20000 monomials"):
        PolynomialDictionary.fit(trajectories, degree=40)
    with pytest.raises(ConfigError, match="width"):
        RadialBasisDictionary.fit(trajectories, 6, width=0.0)
    with pytest.raises(ConfigError, match="num_observables"):
        RandomFourierDictionary.fit(trajectories, 0)
    with pytest.raises(ConfigError, match="num_learned"):
        NetworkDictionary.fit(trajectories, num_learned=0)
    with pytest.raises(DataError, match="no trajectory"):
        IdentityDictionary.fit([])
    with pytest.raises(DataError, match="more than 400 snapshot pairs"):
        RadialBasisDictionary.fit(trajectories, 400)


def test_a_network_without_held_out_trajectories_is_that_of_its_last_step() -> None:
    states = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).cumsum(0)
    fits = [NetworkDictionary.fit([states], 2, steps, width=4) for steps in (0, 1, 2)]
    assert len({fit.digest for fit in fits}) == 3
    assert all(fit.report.best_step is None for fit in fits)
