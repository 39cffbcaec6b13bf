"""The numbers of PyDMD 2025.8.1 (numpy 2, float64) on data that are a formula; PyDMD itself is not needed.

They were printed by, with X as below but transposed, since PyDMD has time along columns,

    DMD(svd_rank=4).fit(X).eigs                 FbDMD(svd_rank=4)                DMD(svd_rank=4, tlsq_rank=4)
    DMD(svd_rank=4, tikhonov_regularization=.5)  HankelDMD(svd_rank=4, d=3)
    BOPDMD(svd_rank=4, num_trials=0, use_proj=True, varpro_opts_dict={"tol": 1e-12, "maxiter": 100,
           "eps_stall": 1e-14}).fit(X, np.arange(40.0))
"""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from relax_rl.koopman.operators.fits import denoised_statistics
from relax_rl.koopman.pairs.delays import delay_embedding
from relax_rl.koopman.pairs.streaming import GramStream
from relax_rl.koopman.spectra.dmd import dmd, dmd_from_statistics
from relax_rl.koopman.spectra.optimised_dmd import optimised_dmd

PLAIN = (0.448132483632 + 0.880618320619j, 0.894962802703 + 0.377994117306j)
FORWARD_BACKWARD = (0.464046494618 + 0.87573915543j, 0.895548923278 + 0.377723955217j)
TOTAL_LEAST_SQUARES = (0.448865550853 + 0.882228987167j, 0.896418457673 + 0.378692057219j)
RIDGE = (0.36906000694 + 0.725894094244j, 0.786090780974 + 0.331876326229j)
HANKEL = (0.448109318704 + 0.882094124051j, 0.894321886825 + 0.37809705731j)
OPTIMISED = (-0.030048401326 + 0.400047281245j, -0.01004876995 + 1.100337160216j)


def snapshots() -> np.ndarray:
    """Two damped waves and a deterministic disturbance, (40, 12)."""
    t, j = np.arange(40)[:, None], np.arange(12)[None]
    waves = 0.97**t * np.cos(0.4 * t + 0.7 * j) + 0.6 * 0.99**t * np.cos(1.1 * t + 1.9 * j)
    return waves + 0.05 * np.sin(37.0 * (t + 1) * (j + 2))


def assert_same(values, expected: tuple[complex, complex], atol: float = 1e-10) -> None:
    both = np.array([*expected, *np.conj(expected)])
    distances = np.abs(np.asarray(values)[:, None] - both)
    assert distances.shape == (4, 4)
    np.testing.assert_allclose(distances.min(0), 0, atol=atol)


X = torch.from_numpy(snapshots())


@pytest.mark.parametrize("rank", [4, 0.9, "optimal"])
def test_ranks(rank) -> None:
    assert_same(dmd(X, rank=rank).eigenvalues, PLAIN)


def test_forward_backward_has_both_directions_in_one_basis() -> None:
    """PyDMD takes the backward operator in the singular basis of Y and the forward one in that of X, and multiplies
    the two; in one basis (Dawson et al. 2016, Algorithm 3) the eigenvalues are five times nearer to the true ones."""

    def reduced(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        u, s, vh = np.linalg.svd(first, full_matrices=False)
        return u[:, :4].T @ second @ vh[:4].T / s[:4]

    x, y = X[:-1].T.numpy(), X[1:].T.numpy()
    theirs = np.linalg.eigvals(sqrtm(reduced(x, y) @ np.linalg.inv(reduced(y, x))))
    assert_same(theirs, FORWARD_BACKWARD)
    true = np.array([0.97 * np.exp(0.4j), 0.99 * np.exp(1.1j)])
    ours = dmd(X, rank=4, variant="forward_backward").eigenvalues.numpy()
    error = np.abs(ours[:, None] - true).min(0)
    assert 5 * error.max() < np.abs(np.array(FORWARD_BACKWARD) - true[::-1]).max()


def test_ridge_in_their_units() -> None:
    scales = np.linalg.svd(X[:-1].numpy(), compute_uv=False)
    ridge = 0.5 * np.linalg.norm(X[:-1]) / np.mean(scales[:4] ** 2)  # theirs is relative to the Frobenius norm
    assert_same(dmd(X, rank=4, variant="ridge", ridge=float(ridge)).eigenvalues, RIDGE)


def test_total_least_squares_before_the_reduction() -> None:
    # Theirs filters the features themselves; `variant="total_least_squares"` filters the reduced coordinates.
    filtered = denoised_statistics(GramStream().update(X).statistics(), 4)
    assert_same(dmd_from_statistics(filtered, rank=4).eigenvalues, TOTAL_LEAST_SQUARES)
    reduced = dmd(X, rank=4, variant="total_least_squares").eigenvalues.abs()
    np.testing.assert_allclose(np.unique(reduced.numpy().round(9)), np.sort(np.abs(TOTAL_LEAST_SQUARES)), atol=5e-3)


def test_delays() -> None:
    assert_same(dmd(*delay_embedding(X, None, 3), rank=4).eigenvalues, HANKEL)


def test_optimised() -> None:
    assert_same(optimised_dmd([X], 4).exponents, OPTIMISED, atol=1e-7)
