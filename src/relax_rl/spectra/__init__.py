"""The Koopman spectrum of a language model: measured, read, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.spectra.axes import AxisSpectrum, axis_spectrum
    from relax_rl.spectra.difference import SpectraDifference, spectra_differences
    from relax_rl.spectra.landscape import ModelLandscape, model_landscapes
    from relax_rl.spectra.measure import LatentSpectra, Pseudospectrum, SiteSpectrum, latent_spectra, recorded_spectra
    from relax_rl.spectra.reading import LatentText
    from relax_rl.spectra.rulers import SiteRuler, SpectrumSettings, TrajectorySpectrum
    from relax_rl.spectra.sentences import LabelledText, SentenceResult, sentence_result, split_sentences, split_texts
    from relax_rl.spectra.text import RegimeOperators, TextModes, text_modes

__all__ = [
    "AxisSpectrum",
    "LabelledText",
    "LatentSpectra",
    "LatentText",
    "ModelLandscape",
    "Pseudospectrum",
    "RegimeOperators",
    "SentenceResult",
    "SiteRuler",
    "SiteSpectrum",
    "SpectraDifference",
    "SpectrumSettings",
    "TextModes",
    "TrajectorySpectrum",
    "axis_spectrum",
    "latent_spectra",
    "model_landscapes",
    "recorded_spectra",
    "sentence_result",
    "spectra_differences",
    "split_sentences",
    "split_texts",
    "text_modes",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "axes": ("AxisSpectrum", "axis_spectrum"),
        "difference": ("SpectraDifference", "spectra_differences"),
        "landscape": ("ModelLandscape", "model_landscapes"),
        "measure": ("LatentSpectra", "Pseudospectrum", "SiteSpectrum", "latent_spectra", "recorded_spectra"),
        "reading": ("LatentText",),
        "rulers": ("SiteRuler", "SpectrumSettings", "TrajectorySpectrum"),
        "sentences": ("LabelledText", "SentenceResult", "sentence_result", "split_sentences", "split_texts"),
        "text": ("RegimeOperators", "TextModes", "text_modes"),
    },
)
