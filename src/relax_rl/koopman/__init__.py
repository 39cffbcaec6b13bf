"""Koopman spectra of latent trajectories: pure torch, batched, differentiable; knows nothing of language models.

Dimension letters: B trajectories (P prompts times G completions), T tokens, H hidden width, F observables, N snapshot
pairs, R rank. Time runs along rows: a lifted trajectory is V (T, F), its pairs X and Y (N, F), and Y ~ X K. Gram matrix
G = X^T X, cross matrix A = X^T Y, and L = Y^T Y. Lift in float32, everything after it in float64.
"""

from relax_rl.koopman.dictionaries.protocol import load_dictionary
from relax_rl.koopman.dictionaries.sigmoid import KoopmanDictionary
from relax_rl.koopman.dispersion.controls import surrogate_null
from relax_rl.koopman.dispersion.estimators import (
    Dispersion,
    Estimator,
    dispersion_from_lifted,
    dynamic_spectral_dispersion,
)
from relax_rl.koopman.geometry import effective_rank
from relax_rl.koopman.pairs.delays import delay_embedding
from relax_rl.koopman.pairs.lags import lagged_snapshots
from relax_rl.koopman.pairs.snapshots import GramStatistics, gram_from_trajectories, pack_trajectories, snapshot_pairs
from relax_rl.koopman.pairs.streaming import GramStream
from relax_rl.koopman.similarity.distances import spectral_wasserstein
from relax_rl.koopman.similarity.koopstd import koopstd_distance, koopstd_distances
from relax_rl.koopman.spectra.dmd import DynamicModes, dmd, edmd
from relax_rl.koopman.spectra.eigenpairs import KoopmanSpectrum, koopman_eigenvalues
from relax_rl.koopman.spectra.kernels import kernel_edmd
from relax_rl.koopman.spectra.optimised_dmd import optimised_dmd
from relax_rl.koopman.spectra.pseudospectrum import pseudospectrum
from relax_rl.koopman.spectra.subspace_dmd import subspace_dmd

__all__ = [
    "Dispersion",
    "DynamicModes",
    "Estimator",
    "GramStatistics",
    "GramStream",
    "KoopmanDictionary",
    "KoopmanSpectrum",
    "delay_embedding",
    "dispersion_from_lifted",
    "dmd",
    "dynamic_spectral_dispersion",
    "edmd",
    "effective_rank",
    "gram_from_trajectories",
    "kernel_edmd",
    "koopman_eigenvalues",
    "koopstd_distance",
    "koopstd_distances",
    "lagged_snapshots",
    "load_dictionary",
    "optimised_dmd",
    "pack_trajectories",
    "pseudospectrum",
    "snapshot_pairs",
    "spectral_wasserstein",
    "subspace_dmd",
    "surrogate_null",
]
