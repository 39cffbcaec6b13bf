"""How far a correct completion's spectrum lies from those of correct completions seen before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from evidence.latent_signals.spectral_diversity import completion_spectra
from relax_rl.errors import ConfigError
from relax_rl.koopman import spectral_wasserstein
from relax_rl.objectives.base import GroupSignal, SignalReading
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.probe import LiftedStates

__all__ = ["SpectralNovelty", "SpectrumMemory"]

_PAIRS_AT_A_TIME = 512


@dataclass(frozen=True)
class SpectrumMemory:
    """The last spectra that were remembered, up to a number of them.

    Attributes:
        capacity: M; what is older is forgotten.
        entries: F eigenvalues each, oldest first.
    """

    capacity: int = 256
    entries: tuple[tuple[complex, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ConfigError(f"memory must be at least 1 spectrum, but is {self.capacity}.")

    def after(self, spectra: Tensor) -> SpectrumMemory:
        """With more spectra (N, F), in their order."""
        entries = (*self.entries, *(tuple(row) for row in spectra.tolist()))
        return replace(self, entries=entries[-self.capacity :])

    def nearest(self, spectra: Tensor, neighbours: int) -> Tensor:
        """Mean W1 to the nearest of what is remembered, as many as there are up to `neighbours`: (N,); 0 of none."""
        if not self.entries or len(spectra) == 0:
            return spectra.real.new_zeros(len(spectra))
        own, known = spectra.cpu(), torch.tensor(self.entries, dtype=torch.complex128)
        count = min(neighbours, len(known))
        bounds = _lower_bounds(own, known)
        likely = bounds.topk(count, dim=-1, largest=False).indices
        is_asked = torch.zeros_like(bounds, dtype=torch.bool).scatter(-1, likely, True)
        distances = torch.full_like(bounds, torch.inf)
        # First those that may be nearest; then whatever could still be nearer than the last of these.
        for _ in range(2):
            rows, columns = is_asked.nonzero(as_tuple=True)
            distances[rows, columns] = _distances(own, known, rows, columns)
            is_asked = distances.isinf() & (bounds < distances.topk(count, dim=-1, largest=False).values[:, -1:])
        return distances.topk(count, dim=-1, largest=False).values.mean(-1).to(spectra.device)

    def state(self) -> list[list[float]]:
        """As JSON has it: each spectrum as (real, imaginary) of one eigenvalue after the other."""
        return [[part for value in entry for part in (value.real, value.imag)] for entry in self.entries]

    def restored(self, state: list[list[float]]) -> SpectrumMemory:
        entries = (tuple(map(complex, numbers[::2], numbers[1::2])) for numbers in state)
        return replace(self, entries=tuple(entries))


def _lower_bounds(left: Tensor, right: Tensor) -> Tensor:
    """(N, M) not above W1 of spectra (N, F) and (M, F): their distance as seen along a line, or in the modulus alone.

    What lies on a line is matched by sorting, and no 1-Lipschitz map takes points further apart.
    """
    views = [(x.real, x.imag, (x.real + x.imag) / 2**0.5, x.abs()) for x in (left, right)]
    seen = [
        (ours.sort(-1).values.unsqueeze(1) - theirs.sort(-1).values).abs().mean(-1)
        for ours, theirs in zip(*views, strict=True)
    ]
    return torch.stack(seen).amax(0)


def _distances(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """W1 of left[rows] and right[columns], some at a time, so that their cost matrices stay small."""
    parts = [
        spectral_wasserstein(left[i], right[j])
        for i, j in zip(rows.split(_PAIRS_AT_A_TIME), columns.split(_PAIRS_AT_A_TIME), strict=True)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class SpectralNovelty(GroupSignal):
    """Mean distance of a correct completion's spectrum to the nearest of those seen before (ours, study G).

        signal_i = mean of the k smallest W1(spectrum_i, m) over the spectra m of the memory

    for the completions with reward > 0 and a spectrum (`completion_spectra`), W1 as in `SpectralDiversity`. It is 0
    while the memory is empty. Of any prompt, not only of the completion's own: a way to be right is new where none of
    the run's recent right completions moved like that.

    Attributes:
        neighbours: k.
        ridge: relative, of the operators.
        memory: spectra of the last correct completions; `Objective.after_rollout` moves it, after the last
            update of each rollout batch, so that no completion is compared with itself.
    """

    neighbours: int = 4
    ridge: float = 1e-2
    memory: SpectrumMemory = SpectrumMemory()
    name: str = "novelty"

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ConfigError(f"neighbours must be at least 1, but is {self.neighbours}.")
        if not self.ridge > 0:
            raise ConfigError(f"ridge must be positive, but is {self.ridge}.")

    @torch.no_grad()
    def __call__(self, lifted: LiftedStates, batch: RolloutBatch) -> SignalReading:
        """(P, G) float64 without gradient, NaN where nothing is said; the spectra are to be remembered."""
        spectra, has_spectrum = completion_spectra(lifted, batch.rewards > 0, self.ridge)
        novelty = self.memory.nearest(spectra, self.neighbours)
        values = torch.full(has_spectrum.shape, torch.nan, dtype=torch.float64, device=has_spectrum.device)
        return SignalReading(values.masked_scatter(has_spectrum, novelty), to_remember=spectra)

    def after_rollout(self, rows: Tensor) -> SpectralNovelty:
        """With the spectra (N, F) of one more rollout batch."""
        return replace(self, memory=self.memory.after(rows))

    def recalibrated(self) -> SpectralNovelty:
        """With nothing remembered: spectra by two dictionaries cannot be compared."""
        return replace(self, memory=replace(self.memory, entries=()))

    def state(self) -> dict[str, Any]:
        return {"memory": self.memory.state()}

    def restored(self, state: Mapping[str, Any]) -> SpectralNovelty:
        return replace(self, memory=self.memory.restored(state["memory"]))
