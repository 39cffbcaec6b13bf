"""One forward over the sampled completions: entropy, dispersion, and the spectrum of them all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.result import PooledSpectrum
from relax_rl.koopman import Estimator, GramStatistics, KoopmanDictionary, dispersion_from_lifted, snapshot_pairs
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.koopman.pairs.snapshots import exclude_nonfinite, gram_statistics
from relax_rl.koopman.spectra.eigenpairs import eigenpairs
from relax_rl.koopman.spectra.residuals import squared_residuals

__all__ = ["Dynamics", "PooledModes", "measure_dynamics", "pooled_modes", "pooled_statistics"]


@dataclass
class Dynamics:
    """Measurements, a value a completion.

    Attributes:
        entropy: summed over the completion's tokens, in nats.
        dsd: NaN where it is not defined.
        spectrum: spectrum of all completions together; None if there are too few tokens for its observables.
        token_entropy: nats at each token, for the rows that were asked for.
        tokens: texts and entropies of the first tokens of these rows, where a tokenizer is known.
    """

    entropy: np.ndarray
    dsd: np.ndarray
    spectrum: PooledSpectrum | None = None
    token_entropy: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    tokens: dict[int, tuple[tuple[str, ...], tuple[float, ...]]] = field(default_factory=dict)


def measure_dynamics(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    dictionary: KoopmanDictionary,
    estimator: Estimator = "paper",
    by_token: Collection[int] = (),
) -> Dynamics:
    """Replay each completion after its prompt (token ids, one pair a row) and measure it.

    Args:
        temperature: temperature of the sampling; see `.replay.replay`.
        dictionary: observables of DSD and spectrum.
        estimator: estimator of the DSD.
        by_token: rows whose entropy is kept for each token.
    """
    found = Dynamics(np.full(len(completions), np.nan), np.full(len(completions), np.nan))
    pooled: GramStatistics | None = None
    for batch in replay(model, prompts, completions, temperature=temperature):
        found.entropy[batch.rows] = batch.entropy.double().sum(dim=1).cpu().numpy()
        for place, row in enumerate(batch.rows):
            if row in by_token:
                found.token_entropy[row] = batch.entropy[place, batch.mask[place]].tolist()
        with torch.no_grad():
            # Lifted once for both; a trajectory with a NaN loses its mask, and with it its DSD.
            states, mask, _ = exclude_nonfinite(batch.hidden_states, batch.mask)
            lifted = dictionary(states)
            dispersion = dispersion_from_lifted(lifted, mask, estimator)
            statistics = pooled_statistics(lifted, mask)
        found.dsd[batch.rows] = torch.where(dispersion.is_defined, dispersion.values.double(), torch.nan).cpu().numpy()
        pooled = statistics if pooled is None else pooled + statistics
    modes = pooled_modes(pooled, dictionary)
    found.spectrum = None if modes is None else modes.spectrum
    return found


def pooled_statistics(lifted: torch.Tensor, mask: torch.Tensor) -> GramStatistics:
    """Gram statistics summed over the trajectories of a batch; no pair crosses two completions."""
    each = gram_statistics(lifted, snapshot_pairs(mask))
    return GramStatistics(each.gram.sum(0), each.cross.sum(0), each.future.sum(0), each.num_pairs.sum(0))


@dataclass(frozen=True)
class PooledModes:
    """A spectrum with what it needs to find its modes in a text.

    Attributes:
        spectrum: largest modulus first.
        eigenvectors: (F, F) complex; column r holds the coefficients of eigenfunction r over the observables.
    """

    spectrum: PooledSpectrum
    eigenvectors: torch.Tensor


def pooled_modes(statistics: GramStatistics | None, dictionary: KoopmanDictionary) -> PooledModes | None:
    """The spectrum of Gram statistics and its eigenfunctions; None with too few snapshot pairs."""
    if statistics is None or int(statistics.num_pairs) <= statistics.num_observables:
        return None  # as many observables as pairs: the fit would interpolate and its spectrum say nothing
    eigenvalues, eigenvectors = eigenpairs(least_squares_operator(statistics).matrix)
    residuals = squared_residuals(statistics, eigenvalues, eigenvectors).clamp_min(0.0).sqrt()
    order = eigenvalues.abs().argsort(descending=True)
    spectrum = PooledSpectrum(
        eigenvalues=tuple((value.real, value.imag) for value in eigenvalues[order].tolist()),
        residuals=tuple(residuals[order].tolist()),
        num_observables=statistics.num_observables,
        dictionary_digest=dictionary.digest,
    )
    return PooledModes(spectrum, eigenvectors[:, order])
