"""Ours (study G): methods by a latent signal that tells the completions of one group apart.

They came to nothing (docs/research/evidence), so they stand here and not in the package. They run by their import path,
from the root of the repository: ``--objective evidence.latent_signals.signal_methods:spectral_diversity``.

The signal is put to use in one of two ways, ``form``: "advantage" adds it to the reward, without gradient;
"regularizer" adds its mean to the loss, with gradient through the hidden states. (`spectral_novelty`, against a memory,
knows the first only.) ``coefficient`` 0 is `grpo`, bit for bit, with the signal only logged. ``beta`` is a plain KL to
the reference policy. ``xi`` is for the log alone (``latent/above_xi``).
"""

from __future__ import annotations

from pydantic import SkipValidation

from evidence.latent_signals.group_signal import Form, SignalUse
from evidence.latent_signals.spectral_diversity import SpectralDiversity
from evidence.latent_signals.spectral_novelty import SpectralNovelty, SpectrumMemory
from evidence.latent_signals.state_volume import Among, Space, StateVolume
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import GroupSignal
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.probe import DictionaryOption, DictionarySettings, DispersionProbe
from relax_rl.objectives.settings import AdvantageSettings, RatioSettings

__all__ = ["spectral_diversity", "spectral_novelty", "state_volume"]


class SignalSettings(AdvantageSettings, RatioSettings):
    """What the three have in common."""

    coefficient: float = 0.1
    dictionary: SkipValidation[DictionaryOption] = None
    xi: float | str = "quantile:0.9"

    def objective(self, name: str, signal: GroupSignal, form: Form) -> Objective:
        use = SignalUse(self.coefficient, form)
        return Objective(
            name=name,
            advantage=use.advantage(self.advantage),
            surrogate=self.surrogate,
            aggregation=SequenceMeanTokenMean(),
            regularizers=(*self.kl("completion_mean"), *use.terms),
            probe=DispersionProbe.parse(self.dictionary, DictionarySettings(), self.xi),
            signal=signal,
        )


class SpectralDiversitySettings(SignalSettings):
    form: Form = "advantage"
    ridge: float = 1e-2


def spectral_diversity(settings: SpectralDiversitySettings) -> Objective:
    """GRPO by how far the spectra of correct completions lie apart (ours, study G); see `SpectralDiversity`."""
    return settings.objective("spectral_diversity", SpectralDiversity(settings.ridge), settings.form)


class StateVolumeSettings(SignalSettings):
    form: Form = "advantage"
    scale: float = 1.0
    among: Among = "correct"
    space: Space = "lifted"


def state_volume(settings: StateVolumeSettings) -> Objective:
    """GRPO by the volume that the mean states of a group span (ours, study G); see `StateVolume`."""
    signal = StateVolume(settings.scale, settings.among, settings.space)
    return settings.objective("state_volume", signal, settings.form)


class SpectralNoveltySettings(SignalSettings):
    """``memory`` is the number of spectra that are remembered."""

    neighbours: int = 4
    memory: int = 256
    ridge: float = 1e-2


def spectral_novelty(settings: SpectralNoveltySettings) -> Objective:
    """GRPO with a bonus for correct completions unlike those seen before (ours, study G); see `SpectralNovelty`."""
    signal = SpectralNovelty(settings.neighbours, settings.ridge, SpectrumMemory(settings.memory))
    return settings.objective("spectral_novelty", signal, "advantage")
