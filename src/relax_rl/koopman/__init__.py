"""Koopman spectra of latent trajectories: pure torch, batched, differentiable; knows nothing of language models.

Dimension letters: B trajectories (P prompts times G completions), T tokens, H hidden width, F observables, N snapshot
pairs, R rank. Time runs along rows: a lifted trajectory is V (T, F), its pairs X and Y (N, F), and Y ~ X K. Gram matrix
G = X^T X, cross matrix A = X^T Y, and L = Y^T Y. Lift in float32, everything after it in float64.
"""

from relax_rl.koopman.dictionaries.fixed import (
    IdentityDictionary,
    PolynomialDictionary,
    RadialBasisDictionary,
    RandomFourierDictionary,
)
from relax_rl.koopman.dictionaries.network import NetworkDictionary
from relax_rl.koopman.dictionaries.protocol import Dictionary, DictionaryFitReport, load_dictionary
from relax_rl.koopman.dictionaries.sigmoid import KoopmanDictionary
from relax_rl.koopman.dispersion.controls import (
    SurrogateNull,
    dispersion_by_length,
    held_out_heterogeneity,
    surrogate_null,
)
from relax_rl.koopman.dispersion.estimators import (
    LARGE_MODULUS,
    Dispersion,
    Estimator,
    dispersion_from_gram,
    dispersion_from_lifted,
    dynamic_spectral_dispersion,
)
from relax_rl.koopman.geometry import (
    EffectiveRankGrowth,
    effective_rank,
    effective_rank_growth,
    log_det_diversity,
    log_det_gains,
    stable_rank,
    trajectory_curvature,
)
from relax_rl.koopman.linalg.assignment import optimal_assignment
from relax_rl.koopman.pairs.delays import delay_embedding
from relax_rl.koopman.pairs.snapshots import GramStatistics, gram_from_trajectories, gram_statistics, snapshot_pairs
from relax_rl.koopman.pairs.streaming import GramStream
from relax_rl.koopman.similarity.distances import spectral_wasserstein, spectral_wasserstein_matrix
from relax_rl.koopman.similarity.koopstd import (
    KoopSTD,
    ShortTimeSpectrum,
    koopstd_distance,
    koopstd_distances,
    short_time_frames,
)
from relax_rl.koopman.similarity.landscape import (
    Landscape,
    Scaling,
    agglomerate,
    classical_scaling,
    dynamical_landscape,
    silhouette,
)
from relax_rl.koopman.similarity.representation import (
    canonical_correlation,
    linear_cka,
    procrustes_similarity,
    representational_similarity,
)
from relax_rl.koopman.similarity.vector_fields import delay_operator, delay_spectrum, vector_field_distance
from relax_rl.koopman.spectra.dmd import DynamicModes, dmd, dmd_from_statistics, edmd
from relax_rl.koopman.spectra.eigenpairs import (
    SPURIOUS_RESIDUAL,
    KoopmanSpectrum,
    koopman_eigenvalues,
    spectrum_from_statistics,
)
from relax_rl.koopman.spectra.kernels import KernelModes, LinearKernel, PolynomialKernel, RBFKernel, kernel_edmd
from relax_rl.koopman.spectra.optimised_dmd import ExponentialFit, optimised_dmd
from relax_rl.koopman.spectra.pseudospectrum import complex_grid, pseudospectrum, pseudospectrum_from_statistics
from relax_rl.koopman.spectra.residuals import (
    GRAM_RESIDUAL_FLOOR,
    ResidualKind,
    disjoint_folds,
    dual_residuals,
    gram_residuals,
    mean_residuals,
    primal_residuals,
    residual_kind,
)

__all__ = [
    "GRAM_RESIDUAL_FLOOR",
    "LARGE_MODULUS",
    "SPURIOUS_RESIDUAL",
    "Dictionary",
    "DictionaryFitReport",
    "Dispersion",
    "DynamicModes",
    "EffectiveRankGrowth",
    "Estimator",
    "ExponentialFit",
    "GramStatistics",
    "GramStream",
    "IdentityDictionary",
    "KernelModes",
    "KoopSTD",
    "KoopmanDictionary",
    "KoopmanSpectrum",
    "Landscape",
    "LinearKernel",
    "NetworkDictionary",
    "PolynomialDictionary",
    "PolynomialKernel",
    "RBFKernel",
    "RadialBasisDictionary",
    "RandomFourierDictionary",
    "ResidualKind",
    "Scaling",
    "ShortTimeSpectrum",
    "SurrogateNull",
    "agglomerate",
    "canonical_correlation",
    "classical_scaling",
    "complex_grid",
    "delay_embedding",
    "delay_operator",
    "delay_spectrum",
    "disjoint_folds",
    "dispersion_by_length",
    "dispersion_from_gram",
    "dispersion_from_lifted",
    "dmd",
    "dmd_from_statistics",
    "dual_residuals",
    "dynamic_spectral_dispersion",
    "dynamical_landscape",
    "edmd",
    "effective_rank",
    "effective_rank_growth",
    "gram_from_trajectories",
    "gram_residuals",
    "gram_statistics",
    "held_out_heterogeneity",
    "kernel_edmd",
    "koopman_eigenvalues",
    "koopstd_distance",
    "koopstd_distances",
    "linear_cka",
    "load_dictionary",
    "log_det_diversity",
    "log_det_gains",
    "mean_residuals",
    "optimal_assignment",
    "optimised_dmd",
    "primal_residuals",
    "procrustes_similarity",
    "pseudospectrum",
    "pseudospectrum_from_statistics",
    "representational_similarity",
    "residual_kind",
    "short_time_frames",
    "silhouette",
    "snapshot_pairs",
    "spectral_wasserstein",
    "spectral_wasserstein_matrix",
    "spectrum_from_statistics",
    "stable_rank",
    "surrogate_null",
    "trajectory_curvature",
    "vector_field_distance",
]
