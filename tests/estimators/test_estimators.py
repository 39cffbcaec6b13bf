"""Estimators on arrays: known spectra, several trajectories, forecasts, and what float32 does to them."""

import re

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from relax_rl.errors import ConfigError, DataError
from relax_rl.estimators import DMD, EDMD, DelayDMD, KernelEDMD, OptimisedDMD
from relax_rl.koopman import KoopmanDictionary, delay_embedding, dmd, kernel_edmd
from relax_rl.koopman.spectra.kernels import PolynomialKernel, RBFKernel

MATRIX = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.0, 0.0, 0.7]])
VALUES = np.linalg.eigvals(MATRIX)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def orbit(T: int, seed: int = 0) -> np.ndarray:
    states = [np.random.default_rng(seed).standard_normal(3)]
    for _ in range(T - 1):
        states.append(states[-1] @ MATRIX)
    return np.stack(states)


def with_constant(states: np.ndarray) -> np.ndarray:
    return np.c_[states, np.ones(len(states))]


def assert_has(values: np.ndarray, expected: np.ndarray, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(np.abs(values[:, None] - expected).min(0), 0, atol=atol)


@pytest.mark.parametrize(
    "estimator",
    [
        DMD(),
        DMD(variant="forward_backward"),
        DMD(variant="total_least_squares", modes="exact"),
        DelayDMD(3, rank=3),
        EDMD(),
        EDMD(with_constant),
        KernelEDMD("linear", rank=3),
        KernelEDMD("polynomial", rank=None),
        OptimisedDMD(3),
    ],
    # A function is shown by its address, which is another in every worker.
    ids=lambda estimator: re.sub(r" at 0x[0-9a-f]+", "", repr(estimator)),
)
def test_each_finds_a_linear_system_and_its_future(estimator) -> None:
    X = orbit(40)
    fitted = estimator.fit(X)
    assert_has(fitted.eigenvalues_, VALUES, 1e-7)
    np.testing.assert_allclose(fitted.continuous_eigenvalues_, np.log(fitted.eigenvalues_), atol=1e-12)
    first, future = (X[:3], X[3:8]) if isinstance(estimator, DelayDMD) else (X[2:3], X[3:8])
    np.testing.assert_allclose(np.squeeze(fitted.forecast(first, 5)), future, atol=1e-6)
    largest = np.abs(fitted.eigenvalues_[:, None] - VALUES).argmin(0)
    assert fitted.residuals_[largest].max() < 1e-6
    assert fitted.residual_kind_ == "primal"


@pytest.mark.parametrize(
    "estimator", [DMD(), DelayDMD(2, rank=3), EDMD(), KernelEDMD("linear", rank=3), OptimisedDMD(3)]
)
def test_lists_and_lengths_are_one_thing_and_no_pair_crosses(estimator) -> None:
    parts = [orbit(12, 1), orbit(7, 2), orbit(9, 3)]
    from_list = estimator.fit(parts)
    values, pairs = from_list.eigenvalues_, from_list.n_pairs_
    from_lengths = estimator.fit(np.concatenate(parts), lengths=[12, 7, 9])
    np.testing.assert_array_equal(values, from_lengths.eigenvalues_)
    delays = getattr(estimator, "delays", 1)
    assert pairs == 28 - 3 * delays
    assert_has(values, VALUES, 1e-7)


@pytest.mark.parametrize("estimator", [DMD(rank=4), EDMD(rank=4), KernelEDMD(rank=4), OptimisedDMD(2)])
def test_float32_is_the_same_numbers_in_float64(estimator) -> None:
    X = np.random.default_rng(4).standard_normal((30, 6)).astype(np.float32)
    low = estimator.fit(X).eigenvalues_
    high = estimator.fit(X.astype(np.float64)).eigenvalues_
    assert low.dtype == np.complex128
    assert_has(low, high, 1e-10)
    assert estimator.predict(X).dtype == np.float64


def test_more_features_than_snapshots_says_which_residual_holds() -> None:
    noise = np.random.default_rng(5).standard_normal((30, 200))
    fitted = DMD().fit(noise)
    assert fitted.residual_kind_ == "dual"
    assert np.median(fitted.residuals_) > 0.9
    lift, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((200, 3)))
    wide = orbit(30) @ lift.T
    assert DMD().fit(wide).residuals_.max() < 1e-10
    assert DMD().fit(np.random.default_rng(7).standard_normal((7, 6))).residual_kind_ == "vacuous"
    assert KernelEDMD(rank=None).fit(noise).residual_kind_ == "vacuous"
    assert KernelEDMD(rank=9).fit(noise).residual_kind_ == "primal"


def test_edmd_takes_transformers_functions_and_dictionaries() -> None:
    X = orbit(40)
    values = EDMD(PolynomialFeatures(1)).fit(X).eigenvalues_
    assert_has(values, np.r_[VALUES, 1.0])
    dictionary = KoopmanDictionary(torch.from_numpy(np.random.default_rng(8).standard_normal((3, 8))))
    lifted = EDMD(dictionary).fit(X)
    assert lifted.eigenvectors_.shape[0] == 8
    expected = dictionary(torch.from_numpy(X)).double().numpy() @ lifted.eigenvectors_
    np.testing.assert_allclose(lifted.transform(X), expected, atol=1e-12 * np.abs(expected).max())
    with pytest.raises(DataError, match="must be"):
        EDMD(lambda states: states[:5]).fit(X)


def test_eigenfunctions_and_modes_make_the_states() -> None:
    X = orbit(40)
    for estimator in (DMD(), EDMD(), KernelEDMD("linear", rank=3), OptimisedDMD(3)):
        phi = estimator.fit_transform(X)
        np.testing.assert_allclose((phi @ estimator.modes_).real, X, atol=1e-6)
        error = phi[1:] - phi[:-1] * estimator.eigenvalues_
        np.testing.assert_allclose(error, 0, atol=1e-6 * np.abs(phi).max())


def test_every_setting_reaches_the_function() -> None:
    X = np.random.default_rng(11).standard_normal((40, 6)).cumsum(0)
    states = torch.from_numpy(X)
    for options in (
        {"rank": 3, "modes": "exact"},
        {"variant": "ridge", "ridge": 0.2},
        {"rank": 4, "variant": "total_least_squares", "solver": "gram"},
    ):
        expected = dmd(states, **options)
        fitted = DMD(**options, dt=0.1).fit(X)
        np.testing.assert_array_equal(fitted.modes_, expected.modes)
        np.testing.assert_array_equal(fitted.continuous_eigenvalues_, expected.continuous_eigenvalues(0.1))
    random = dmd(states, rank=2, solver="randomised", seed=5).eigenvalues
    np.testing.assert_array_equal(DMD(2, solver="randomised", random_state=5).fit(X).eigenvalues_, random)

    delayed = dmd(*delay_embedding(states, None, 3), rank=5, variant="forward_backward")
    fitted = DelayDMD(3, rank=5, variant="forward_backward").fit(X)
    np.testing.assert_array_equal(fitted.modes_, delayed.modes[:, -6:])
    np.testing.assert_array_equal(fitted.delay_modes_[:, 0], delayed.modes[:, :6])
    np.testing.assert_array_equal(fitted.forecast(X, 2), fitted.forecast(X[-3:], 2))

    kernel = PolynomialKernel(3, 0.5, float(states.square().sum(-1).mean()))
    expected = kernel_edmd(states, kernel=kernel, rank=4, variant="ridge", ridge=0.1).modes
    fitted = KernelEDMD("polynomial", 4, degree=3, offset=0.5, variant="ridge", ridge=0.1).fit(X)
    np.testing.assert_array_equal(fitted.eigenvalues_, expected.eigenvalues)
    expected = kernel_edmd(states, kernel=RBFKernel(2.0), rank=4).modes
    np.testing.assert_array_equal(KernelEDMD(rank=4, bandwidth=2.0).fit(X).eigenvalues_, expected.eigenvalues)


def test_optimised_dmd_takes_uneven_times() -> None:
    rng = np.random.default_rng(9)
    times = np.sort(rng.random(50)) * 6
    X = np.exp(np.outer(times, [-0.2 + 3j, -0.2 - 3j])) @ np.array([[1 + 1j, 2, 0.5], [1 - 1j, 2, 0.5]])
    fitted = OptimisedDMD(2, dt=0.5).fit(X.real, times=[times])
    assert_has(fitted.continuous_eigenvalues_, np.array([-0.2 + 3j, -0.2 - 3j]))
    assert_has(fitted.eigenvalues_, np.exp(0.5 * np.array([-0.2 + 3j, -0.2 - 3j])))
    assert fitted.is_converged_


def test_in_a_pipeline_and_a_search() -> None:
    X = orbit(60) + 0.01 * np.random.default_rng(10).standard_normal((60, 3))
    assert make_pipeline(StandardScaler(), DMD()).fit(X).predict(X).shape == X.shape
    search = GridSearchCV(DMD(), {"rank": np.array([1, 3])}, cv=3).fit(X)
    assert search.best_params_ == {"rank": 3}


def test_score_is_the_variance_explained() -> None:
    X = orbit(40)
    fitted = DMD(rank=2).fit([X[:20], X[20:]])
    predicted, future = fitted.predict(X[:-1]), X[1:]
    keep = np.arange(39) != 19
    error = ((future - predicted)[keep] ** 2).sum() / ((future[keep] - future[keep].mean(0)) ** 2).sum()
    assert fitted.score([X[:20], X[20:]]) == pytest.approx(1 - error)
    assert DMD().fit(X).score(X) == pytest.approx(1.0)


def test_mistakes_are_named() -> None:
    X = orbit(10)
    with pytest.raises(DataError, match="sum to the 10 rows"):
        DMD().fit(X, lengths=[5, 4])
    with pytest.raises(DataError, match="positive"):
        DMD().fit(X, lengths=[10, 0])
    with pytest.raises(DataError, match="own lengths"):
        DMD().fit([X], lengths=[10])
    with pytest.raises(DataError, match="same number of features"):
        DMD().fit([X, X[:, :2]])
    with pytest.raises(DataError, match="11 states"):
        DelayDMD(10).fit([X, X[:5]])
    with pytest.raises(ConfigError, match="kernel"):
        KernelEDMD("cubic").fit(X)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps"):
        DMD().fit(X).forecast(X, 0)
    with pytest.raises(ConfigError, match="history of 4"):
        DelayDMD(4).fit(X).forecast(X[:3], 1)
    with pytest.raises(ValueError, match="Complex"):
        DMD().fit(X + 1j)


def test_delays_predict_and_score_what_one_state_cannot() -> None:
    """A rotation seen through one number: the next value follows from the two before, x'' = 2 cos(w) x' - x."""
    steps = np.arange(30)
    waves = [np.cos(0.7 * steps + phase)[:, None] for phase in (0.0, 0.4)]
    fitted = DelayDMD(2).fit(waves)
    predicted = fitted.predict(waves[0])
    np.testing.assert_allclose(predicted[:-1], waves[0][2:], atol=1e-10)
    np.testing.assert_allclose(predicted, 2 * np.cos(0.7) * waves[0][1:] - waves[0][:-1], atol=1e-10)
    both = fitted.predict(np.concatenate(waves), lengths=[30, 30])
    np.testing.assert_allclose(both, np.concatenate([predicted, fitted.predict(waves[1])]))
    assert fitted.score(waves) == pytest.approx(1.0)
    assert DelayDMD(1).fit(waves).score(waves) < 0.9
    noise = np.random.default_rng(0).standard_normal((30, 1))
    future = noise[2:]
    error = ((future - fitted.predict(noise)[:-1]) ** 2).sum()
    assert fitted.score(noise) == pytest.approx(1 - error / ((future - future.mean()) ** 2).sum())
    with pytest.raises(DataError, match="No trajectory has 3 states"):
        fitted.score(noise[:2])
    with pytest.raises(DataError, match="needs 2 states in a row, got 1"):
        fitted.predict(noise[:3], lengths=[2, 1])
