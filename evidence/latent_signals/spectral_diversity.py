"""How far the spectra of a group's correct completions lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman import snapshot_pairs, spectral_wasserstein
from relax_rl.koopman.operators.fits import ridge_operator
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.eigenpairs import eigenvalues
from relax_rl.objectives.base import GroupSignal, SignalReading
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.probe import LiftedStates

__all__ = ["SpectralDiversity", "completion_spectra"]


def completion_spectra(lifted: LiftedStates, chosen: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the ridge operator of each chosen completion: K = (G + s I)^-1 A, s = ridge * mean diagonal of G.

    Args:
        lifted: of (P, G) completions.
        chosen: (P, G) bool, those whose spectrum is wanted.
        ridge: relative, > 0.

    Returns:
        The spectra (N, F) complex128, in no order, of the N chosen completions that have one (finite states and more
        snapshot pairs than observables, as the dispersion asks for too), and which these are, (P, G) bool. Their
        gradient is finite whatever the operator.
    """
    pairs = snapshot_pairs(lifted.mask)
    has_spectrum = chosen & (pairs.sum(-1) > lifted.values.shape[-1])
    statistics = gram_statistics(lifted.values[has_spectrum], pairs[has_spectrum], needs_future=False)
    return eigenvalues(ridge_operator(statistics, ridge, relative=True).matrix), has_spectrum


@dataclass(frozen=True)
class SpectralDiversity(GroupSignal):
    """Mean distance of a correct completion's spectrum to those of its prompt's other correct ones (ours, study G).

        signal_i = 1 / (n - 1) sum_{j != i} W1(spectrum_i, spectrum_j)

    over the n completions with reward > 0 and a spectrum (`completion_spectra`). W1 is the 1-Wasserstein distance of
    the eigenvalues as points of the complex plane, its gradient that of the matched distances with the assignment held
    fixed (0 between equal points). With n < 2 nothing is said of the prompt. Unlike the dispersion, which is about one
    completion alone, it is 0 where all completions move alike.

    Attributes:
        ridge: relative; without one the spectra of some fifty tokens are mostly noise.
    """

    ridge: float = 1e-2
    name: str = "diversity"

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ConfigError(f"ridge must be positive, but is {self.ridge}.")

    def __call__(self, lifted: LiftedStates, batch: RolloutBatch) -> SignalReading:
        """(P, G) float64, NaN where nothing is said."""
        spectra, has_spectrum = completion_spectra(lifted, batch.rewards > 0, self.ridge)
        places = torch.full(has_spectrum.shape, -1, device=has_spectrum.device)
        places[has_spectrum] = torch.arange(len(spectra), device=has_spectrum.device)
        is_pair = (has_spectrum.unsqueeze(-1) & has_spectrum.unsqueeze(-2)).triu(1)
        prompts, left, right = is_pair.nonzero(as_tuple=True)
        # Hundreds of small steps each: faster on the CPU, where the eigenvalues were computed too.
        spectra = spectra.cpu()
        first, second = (spectra[places[prompts, side].cpu()] for side in (left, right))
        distances = spectral_wasserstein(first, second).to(lifted.values.device)
        totals = distances.new_zeros(has_spectrum.shape)
        for side in (left, right):
            totals = totals.index_put((prompts, side), distances, accumulate=True)
        count = has_spectrum.sum(-1, keepdim=True)
        means = totals / (count - 1).clamp(min=1)
        return SignalReading(torch.where(has_spectrum & (count > 1), means, torch.nan))
