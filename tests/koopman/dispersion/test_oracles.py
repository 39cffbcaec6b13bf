"""Systems whose Koopman spectra are known: in closed form, or published with the code of ResDMD's authors.

Quadrature weights enter as their square roots on the rows; two snapshots (x_i, y_i) are a trajectory of their own.
"""

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite_e, legendre

from relax_rl.koopman import KoopmanSpectrum, koopman_eigenvalues, pseudospectrum
from relax_rl.koopman.pairs.snapshots import GramStatistics
from relax_rl.koopman.spectra.eigenpairs import spectrum_from_statistics
from relax_rl.koopman.spectra.residuals import mean_residuals


def as_trajectories(x: np.ndarray, y: np.ndarray, weights: np.ndarray | float = 1.0) -> list[torch.Tensor]:
    """Lifted pairs (N, F) as N trajectories of two snapshots, weighted."""
    return list(torch.from_numpy(np.stack([x, y], 1) * np.sqrt(weights * np.ones(len(x)))[:, None, None]))


def fourier(angles: np.ndarray, largest: int) -> np.ndarray:
    return np.exp(1j * np.outer(angles, np.arange(-largest, largest + 1)))


def distance(found: torch.Tensor, known: np.ndarray) -> float:
    """Largest distance of a known value from the nearest one found."""
    return float(np.abs(found.numpy()[:, None] - np.asarray(known)).min(0).max())


def test_irrational_rotation_in_fourier_modes() -> None:
    omega = np.sqrt(2) * np.pi
    angles = 2 * np.pi * np.arange(64) / 64
    spectrum = koopman_eigenvalues(as_trajectories(fourier(angles, 10), fourier(angles + omega, 10)))
    assert len(spectrum.eigenvalues) == 21
    assert distance(spectrum.eigenvalues, np.exp(1j * omega * np.arange(-10, 11))) < 4e-15
    assert spectrum.residuals.max() < 1e-14


def test_triangular_map_in_monomials_to_degree_three() -> None:
    axis = np.linspace(-1, 1, 9)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    def monomials(p: np.ndarray) -> np.ndarray:
        return np.stack([p[:, 0] ** i * p[:, 1] ** j for i in range(4) for j in range(4 - i)], 1)

    spectrum = koopman_eigenvalues(as_trajectories(monomials(points), monomials(points @ [[0.9, 0], [0.1, 0.8]])))
    known = [0.512, 0.576, 0.64, 0.648, 0.72, 0.729, 0.8, 0.81, 0.9, 1]
    np.testing.assert_allclose(np.sort(spectrum.eigenvalues.real), known, atol=1e-14)
    assert spectrum.eigenvalues.imag.abs().max() < 1e-14
    assert spectrum.residuals.max() < 1e-13


def test_autoregression_in_hermite_polynomials_has_the_variance_as_its_residual() -> None:
    # x' = a x + sqrt(1 - a^2) e; both, and a second e, by quadrature that is exact for these degrees.
    a, degree = 0.7, 5
    nodes, node_weights = hermite_e.hermegauss(12)
    node_weights = node_weights / node_weights.sum()
    x, e, f = (grid.ravel() for grid in np.meshgrid(nodes, nodes, nodes, indexing="ij"))
    weights = np.einsum("i,j,k->ijk", *[node_weights] * 3).ravel()
    factorials = np.sqrt(np.cumprod([1, *range(1, degree + 1)]))

    def lift(points: np.ndarray) -> np.ndarray:
        return hermite_e.hermevander(points, degree) / factorials * np.sqrt(weights)[:, None]

    present, first, second = lift(x), *(lift(a * x + np.sqrt(1 - a * a) * noise) for noise in (e, f))
    spectrum = koopman_eigenvalues(as_trajectories(present, first))
    powers = a ** np.arange(degree + 1)
    np.testing.assert_allclose(spectrum.eigenvalues, powers, atol=1e-12)
    np.testing.assert_allclose(spectrum.residuals, np.sqrt(1 - powers**2), atol=1e-7)
    x_lifted, y_lifted, z_lifted = (torch.from_numpy(lifted) for lifted in (present, first, second))
    mean, deviation = mean_residuals(x_lifted, y_lifted, z_lifted, spectrum.eigenvalues, spectrum.eigenvectors)
    assert mean.max() < 1e-6  # the root of rounding
    np.testing.assert_allclose(deviation, np.sqrt(1 - powers**2), atol=1e-7)


def test_gauss_map_has_five_trustworthy_eigenvalues_among_forty() -> None:
    nodes, weights = legendre.leggauss(100)
    nodes, weights = (nodes - 1) / 2, weights / 2
    norms = np.sqrt(2 * np.arange(40) + 1)

    def lift(points: np.ndarray) -> np.ndarray:
        return legendre.legvander(2 * points + 1, 39) * norms

    image = np.exp(-2 * nodes**2) - 1 - np.exp(-2)
    spectrum = koopman_eigenvalues(as_trajectories(lift(nodes), lift(image), weights))
    assert len(spectrum.eigenvalues) == 40
    trusted = spectrum.pruned(1e-3).eigenvalues
    ladder = [1, 0.1356204053, 0.0469626654, 0.0116523380, 0.0019231061]
    assert distance(trusted, np.array(ladder)) < 1e-9
    assert spectrum.spurious_share(1e-3) > 0.5


def test_doubling_map_pseudospectrum() -> None:
    # The longest chain e_k -> e_2k -> ... within |k| <= 10 is of four modes: r(i)^2 = 2 - 2 cos(pi / 5).
    angles = 2 * np.pi * np.arange(64) / 64
    trajectories = as_trajectories(fourier(angles, 10), fourier(2 * angles, 10))
    values = pseudospectrum(trajectories, torch.tensor([0.5 + 0j, 1j]).to(torch.complex128))
    np.testing.assert_allclose(values, [0.5, 0.618034], atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pendulum_in_fourier_hermite_functions() -> None:
    """Colbrook and Townsend's pendulum: x'' = -sin x, dt = 0.5, modes with max(|k|, 1) j <= 100: 964 functions."""
    spectrum = pendulum_spectrum()
    assert len(spectrum.eigenvalues) == 964
    known = np.array([0.880347701848 + 0.473226384533j, 0.558620606229 + 0.826563250518j])
    assert distance(spectrum.eigenvalues, known) < 5e-5


def pendulum_spectrum() -> KoopmanSpectrum:
    num_points, cutoff, num_modes, num_hermite = 300, 15.0, 50, 100
    theta = -np.pi + 2 * np.pi * (np.arange(num_points) + 0.5) / num_points
    momentum, spacing = np.linspace(-cutoff, cutoff, num_points, retstep=True)
    weight = spacing * 2 * np.pi / num_points
    k, j = np.meshgrid(np.arange(-num_modes, num_modes + 1), np.arange(num_hermite), indexing="ij")
    chosen = np.maximum(np.abs(k), 1) * (j + 1) <= num_hermite
    k, j = k[chosen], j[chosen]

    def lift(angle: np.ndarray, p: np.ndarray) -> np.ndarray:
        hermite = np.empty((num_hermite, len(p)))
        hermite[0] = np.exp(-(p**2) / 2) / np.pi**0.25
        hermite[1] = np.sqrt(2) * p * hermite[0]
        for n in range(2, num_hermite):
            hermite[n] = np.sqrt(2 / n) * p * hermite[n - 1] - np.sqrt((n - 1) / n) * hermite[n - 2]
        modes = np.exp(1j * np.outer(np.arange(-num_modes, num_modes + 1), angle)) / np.sqrt(2 * np.pi)
        return (modes[k + num_modes] * hermite[j]).T * np.sqrt(weight)

    def flow(angle: np.ndarray, p: np.ndarray, time: float = 0.5, steps: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Fourth-order symplectic (Yoshida): error 1e-10 here."""
        root = 2 ** (1 / 3)
        first = 1 / (2 - root)
        for _ in range(steps):
            for share in (first, -root * first, first):
                h = share * time / steps
                angle = angle + h / 2 * p
                p = p - h * np.sin(angle)
                angle = angle + h / 2 * p
        return angle, p

    # (angle, p) -> (-angle, -p), a symmetry, conjugates a function and multiplies it by (-1)^j: half the points do.
    statistics = None
    for angle in np.split(theta[: num_points // 2], 30):
        angles, momenta = (grid.ravel() for grid in np.meshgrid(angle, momentum, indexing="ij"))
        x, y = (torch.from_numpy(lift(*points)) for points in ((angles, momenta), flow(angles, momenta)))
        half = GramStatistics(x.mH @ x, x.mH @ y, y.mH @ y, torch.tensor(len(x)))
        statistics = half if statistics is None else statistics + half
    signs = torch.from_numpy((-1.0) ** j)
    mirrored = statistics.changed_basis(torch.diag(signs).to(torch.complex128))
    conjugate = GramStatistics(mirrored.gram.conj(), mirrored.cross.conj(), mirrored.future.conj(), mirrored.num_pairs)
    return spectrum_from_statistics(statistics + conjugate)
