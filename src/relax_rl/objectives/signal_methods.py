"""Ours (study G): methods by a latent signal that tells the completions of one group apart.

Each is one function; its parameters are its settings. The signal is put to use in one of two ways, ``form``:
"advantage" adds it to the reward, without gradient; "regularizer" adds its mean to the loss, with gradient through the
hidden states. (`spectral_novelty`, against a memory, knows the first only.) ``coefficient`` 0 is `grpo`, bit for bit,
with the signal only logged. ``beta`` is a plain KL to the reference policy (k3). ``xi`` is for the log alone
(``latent/above_xi``).
"""

from __future__ import annotations

from collections.abc import Callable

from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import SequenceMeanTokenMean
from relax_rl.objectives.base import GroupSignal
from relax_rl.objectives.group_signal import Form, SignalUse
from relax_rl.objectives.objective import Objective
from relax_rl.objectives.probe import DictionaryOption, DictionarySettings, DispersionProbe
from relax_rl.objectives.regularizers import plain_kl
from relax_rl.objectives.spectral_diversity import SpectralDiversity
from relax_rl.objectives.spectral_novelty import SpectralNovelty, SpectrumMemory
from relax_rl.objectives.state_volume import Among, Space, StateVolume
from relax_rl.objectives.surrogates import ClippedSurrogate

__all__ = ["SIGNAL_METHODS"]


def spectral_diversity(
    *,
    coefficient: float = 0.1,
    form: Form = "advantage",
    ridge: float = 1e-2,
    dictionary: DictionaryOption = None,
    xi: float | str = "quantile:0.9",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO by how far the spectra of correct completions lie apart (ours, study G); see `SpectralDiversity`."""
    return _by_signal(
        "spectral_diversity",
        SpectralDiversity(ridge),
        DispersionProbe.parse(dictionary, DictionarySettings(), xi),
        SignalUse(coefficient, form),
        GroupRelativeAdvantage(epsilon),
        ClippedSurrogate(clip_low, clip_high),
        beta,
    )


def state_volume(
    *,
    coefficient: float = 0.1,
    form: Form = "advantage",
    scale: float = 1.0,
    among: Among = "correct",
    space: Space = "lifted",
    dictionary: DictionaryOption = None,
    xi: float | str = "quantile:0.9",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO by the volume that the mean states of a group span (ours, study G); see `StateVolume`."""
    return _by_signal(
        "state_volume",
        StateVolume(scale, among, space),
        DispersionProbe.parse(dictionary, DictionarySettings(), xi),
        SignalUse(coefficient, form),
        GroupRelativeAdvantage(epsilon),
        ClippedSurrogate(clip_low, clip_high),
        beta,
    )


def spectral_novelty(
    *,
    coefficient: float = 0.1,
    neighbours: int = 4,
    memory: int = 256,
    ridge: float = 1e-2,
    dictionary: DictionaryOption = None,
    xi: float | str = "quantile:0.9",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    epsilon: float = 1e-4,
) -> Objective:
    """GRPO with a bonus for correct completions unlike those seen before (ours, study G); see `SpectralNovelty`.

    ``memory`` is the number of spectra that are remembered.
    """
    return _by_signal(
        "spectral_novelty",
        SpectralNovelty(neighbours, ridge, SpectrumMemory(memory)),
        DispersionProbe.parse(dictionary, DictionarySettings(), xi),
        SignalUse(coefficient, "advantage"),
        GroupRelativeAdvantage(epsilon),
        ClippedSurrogate(clip_low, clip_high),
        beta,
    )


def _by_signal(
    name: str,
    signal: GroupSignal,
    probe: DispersionProbe,
    use: SignalUse,
    plain: GroupRelativeAdvantage,
    surrogate: ClippedSurrogate,
    beta: float,
) -> Objective:
    return Objective(
        name=name,
        advantage=use.advantage(plain),
        surrogate=surrogate,
        aggregation=SequenceMeanTokenMean(),
        regularizers=(*plain_kl(beta, "completion_mean"), *use.terms),
        probe=probe,
        signal=signal,
    )


_ALL = (spectral_diversity, state_volume, spectral_novelty)
SIGNAL_METHODS: dict[str, Callable[..., Objective]] = {method.__name__: method for method in _ALL}
