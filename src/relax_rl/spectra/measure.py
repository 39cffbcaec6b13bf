"""From a model and texts to the spectra of its latent dynamics, at each site and for each text.

Only as many trajectories as the dictionaries are fitted on are in memory at once; the rest are read, measured, and let
go, or kept in a store: their states, or in their place the Gram statistics, F x F instead of T x H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman import GramStatistics
from relax_rl.koopman.dictionaries.protocol import StoredDictionary
from relax_rl.koopman.spectra.eigenpairs import spectrum_from_statistics
from relax_rl.koopman.spectra.pseudospectrum import pseudospectrum_from_statistics
from relax_rl.latent.repeats import usual_sites
from relax_rl.latent.sites import resolve_sites
from relax_rl.latent.store import LatentStore
from relax_rl.spectra.activity import ModeActivity, mode_activity
from relax_rl.spectra.reading import Capture, LatentText, MeasuredText, Source, TextReader, capture_texts
from relax_rl.spectra.rulers import SiteRuler, SpectrumSettings, TrajectorySpectrum, fit_rulers

__all__ = [
    "EXPLOSIVE_MODULUS",
    "LatentSpectra",
    "LatentText",
    "Path2D",
    "Pseudospectrum",
    "SiteSpectrum",
    "latent_spectra",
    "recorded_spectra",
]

EXPLOSIVE_MODULUS = 1.5
"""A larger eigenvalue doubles a state in two tokens, which no bounded trajectory does: the regression is ill-posed."""


@dataclass(frozen=True)
class Path2D:
    """A trajectory in the plane of the two leading principal components of its site."""

    id: str
    site: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Pseudospectrum:
    """r(z), the smallest residual that any observable of the dictionary has for z, on a grid of the upper half-plane.

    Attributes:
        real, imaginary: the grid's axes; the lower half is its mirror image.
        values: one row an imaginary part, one column a real part.
    """

    real: tuple[float, ...]
    imaginary: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, statistics: GramStatistics, extent: float = 1.6, num_points: int = 65) -> Pseudospectrum:
        """On a grid of `num_points` by half as many, within `extent` of the origin."""
        real = torch.linspace(-extent, extent, num_points, dtype=torch.float64)
        imaginary = real[num_points // 2 :]
        points = torch.complex(*torch.broadcast_tensors(real, imaginary.unsqueeze(-1)))
        values = pseudospectrum_from_statistics(statistics, points)
        return cls(tuple(real.tolist()), tuple(imaginary.tolist()), tuple(tuple(row) for row in values.tolist()))


@dataclass(frozen=True)
class SiteSpectrum:
    """The spectrum of all trajectories of a site together: one operator fitted on all their pairs.

    Attributes:
        eigenvalues: (real, imaginary), discrete: one step is one token; largest modulus first.
        residuals: residual of each; meaningless where `residual_kind` is "vacuous".
        condition: condition number of the regression.
        num_pairs, num_observables: N and F.
        dictionary_digest: digest of the dictionary, without which none of the values means anything.
        dictionary_report: record of its fit, or None if it was given without one.
        statistics: G, A, L, for further measurements; not written to JSON.
    """

    site: str
    eigenvalues: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]
    residual_kind: str
    condition: float
    num_pairs: int
    num_observables: int
    dictionary_digest: str
    dictionary_report: dict[str, Any] | None = None
    statistics: GramStatistics | None = field(default=None, repr=False, compare=False)

    @property
    def moduli(self) -> tuple[float, ...]:
        """How much each mode keeps in one token."""
        return tuple(math.hypot(*value) for value in self.eigenvalues)

    @property
    def pseudospectrum(self) -> Pseudospectrum | None:
        """Computed when asked for; None where residuals are vacuous, or without statistics."""
        return (
            None if self.statistics is None or self.residual_kind == "vacuous" else Pseudospectrum.of(self.statistics)
        )


@dataclass(frozen=True)
class LatentSpectra:
    """Results, and everything that gives the numbers their meaning.

    Attributes:
        model: its name.
        settings: those used, `sites` and `num_observables` resolved.
        sites: one pooled spectrum a site, in order of depth; a site without enough finite pairs is absent.
        trajectories: one row a text and site, texts in the order given.
        paths: the first texts at each site.
        activities: by site, how strong the pooled modes are at each token of the first texts; not written to JSON.
        pieces: the texts of the tokens of these texts, where a tokenizer was at hand; not written to JSON. Untrusted.
        num_state_bytes, num_statistics_bytes: size of all hidden states, and of their Gram statistics.
        rulers: to measure another model with; not written to JSON.
    """

    model: str
    settings: SpectrumSettings
    sites: tuple[SiteSpectrum, ...]
    trajectories: tuple[TrajectorySpectrum, ...]
    paths: tuple[Path2D, ...] = ()
    num_state_bytes: int = 0
    num_statistics_bytes: int = 0
    rulers: dict[str, SiteRuler] = field(default_factory=dict, repr=False, compare=False)
    activities: dict[str, ModeActivity] = field(default_factory=dict, repr=False, compare=False)
    pieces: tuple[tuple[str, ...], ...] = field(default=(), repr=False, compare=False)

    def __getitem__(self, site: str) -> SiteSpectrum:
        """The pooled spectrum of a site. Raises ``KeyError`` naming those that there are."""
        for spectrum in self.sites:
            if spectrum.site == site:
                return spectrum
        raise KeyError(f"no spectrum at {site!r}; there are {', '.join(s.site for s in self.sites) or 'none'}")

    def at(self, site: str) -> list[TrajectorySpectrum]:
        """The trajectories of a site."""
        return [row for row in self.trajectories if row.site == site]

    def to_dict(self) -> dict[str, Any]:
        """As plain tables and lists: JSON, but for NaN."""
        sites = [asdict(replace(spectrum, statistics=None)) for spectrum in self.sites]
        for site in sites:
            del site["statistics"]
        return {
            "model": self.model,
            "settings": asdict(self.settings),
            "sites": sites,
            "trajectories": [row.to_dict() for row in self.trajectories],
            "num_state_bytes": self.num_state_bytes,
            "num_statistics_bytes": self.num_statistics_bytes,
        }


def latent_spectra(
    model: Any,
    texts: Sequence[LatentText] | Sequence[Sequence[int]],
    settings: SpectrumSettings | None = None,
    *,
    name: str = "model",
    dictionaries: Mapping[str, StoredDictionary] | None = None,
    store: LatentStore | None = None,
    keep_statistics_only: bool = False,
    tokens_per_batch: int = 2**13,
) -> LatentSpectra:
    """Read texts and measure the dynamics of the hidden states, text by text and all together.

    Args:
        model: a Hugging Face causal language model.
        texts: each with at least one token to measure; plain token ids do.
        dictionaries: by site; those missing are fitted on the first texts.
        store: rows that it has are not read again by the model, new ones are added.
        keep_statistics_only: the store holds Gram statistics and measurements instead of states, and the rulers of the
            first call in its folder ``rulers``, with which all that follows is measured. Copied to the empty stores of
            other processes, they make what those gather fit to be merged.
        tokens_per_batch: see :func:`~relax_rl.latent.trajectories.capture_sequences`.

    Raises:
        DataError: no text, a text with nothing to measure, or too few pairs for the dictionary.
        ConfigError: a site that the model does not have.
    """
    texts = [
        text if isinstance(text, LatentText) else LatentText(f"text-{index}", tuple(text))
        for index, text in enumerate(texts)
    ]
    if not texts:
        raise DataError("There is no text to read; give at least one.")
    settings = settings or SpectrumSettings()
    sites = resolve_sites(model, settings.sites) if settings.sites else usual_sites(model)
    capture = capture_texts(model, texts, sites, tokens_per_batch)
    reader = TextReader(texts, sites, capture, store, keep_statistics_only)
    return _measured(reader, texts, sites, settings, dictionaries or {}, name)


def recorded_spectra(
    recordings: Sequence[Source],
    capture: Capture,
    settings: SpectrumSettings,
    *,
    name: str = "states",
    dictionaries: Mapping[str, StoredDictionary] | None = None,
    store: LatentStore | None = None,
    keep_statistics_only: bool = False,
) -> LatentSpectra:
    """Measure the dynamics of states that are there already, as :func:`latent_spectra` does of a model's.

    Args:
        recordings: recorded states, such as :class:`~relax_rl.latent.recordings.Recording`.
        capture: gives the trajectories of those at some positions, with all sites of the settings.
        settings: with the sites named.

    Raises:
        DataError: nothing recorded, or too few pairs for the dictionary.
    """
    if not recordings:
        raise DataError("There are no recorded states to measure; give at least one trajectory.")
    sites = list(settings.sites)
    reader = TextReader(recordings, sites, capture, store, keep_statistics_only)
    return _measured(reader, recordings, sites, settings, dictionaries or {}, name)


def _measured(
    reader: TextReader,
    texts: Sequence[Source],
    sites: list[str],
    settings: SpectrumSettings,
    dictionaries: Mapping[str, StoredDictionary],
    name: str,
) -> LatentSpectra:
    rulers = reader.stored_rulers(dictionaries)
    rulers = rulers or fit_rulers(reader.first(settings.fit_tokens), settings, dictionaries)
    reader.keep_rulers(rulers)
    num_observables = next(iter(rulers.values())).dictionary.num_observables
    settings = replace(settings, sites=tuple(sites), num_observables=num_observables)
    collected = _Collection(texts, settings, rulers)
    for row, measured in reader.measured(rulers, settings):
        collected.add(row, measured)
    return collected.result(name)


class _Collection:
    """Sums and rows, from which the result is made."""

    def __init__(self, texts: Sequence[Source], settings: SpectrumSettings, rulers: dict[str, SiteRuler]) -> None:
        self._texts, self._settings, self._rulers = texts, settings, rulers
        self._pooled: dict[str, GramStatistics] = {}
        self._rows: dict[int, dict[str, TrajectorySpectrum]] = {}
        self._paths: dict[int, dict[str, Tensor]] = {}
        self._lifted: dict[int, dict[str, Tensor]] = {}
        self._activities: dict[str, ModeActivity] = {}
        self._num_state_bytes = 0
        self._num_statistics_bytes = 0

    def add(self, row: int, measured: MeasuredText) -> None:
        self._rows[row] = measured.spectra
        self._num_state_bytes += measured.num_state_bytes
        for site, statistics in measured.statistics.items():
            self._pooled[site] = self._pooled[site] + statistics if site in self._pooled else statistics
            self._num_statistics_bytes += 3 * statistics.gram.nbytes
        if row < self._settings.num_paths:
            self._paths[row] = measured.paths
            self._lifted[row] = measured.lifted

    def result(self, name: str) -> LatentSpectra:
        return LatentSpectra(
            model=name,
            settings=self._settings,
            sites=tuple(self._site(site) for site in self._settings.sites if site in self._pooled),
            trajectories=tuple(self._rows[row][site] for row in sorted(self._rows) for site in self._settings.sites),
            paths=tuple(
                Path2D(self._texts[row].id, site, tuple((float(x), float(y)) for x, y in path))
                for row in sorted(self._paths)
                for site, path in self._paths[row].items()
            ),
            num_state_bytes=self._num_state_bytes,
            num_statistics_bytes=self._num_statistics_bytes,
            rulers=self._rulers,
            activities=self._activities,
        )

    def _site(self, site: str) -> SiteSpectrum:
        statistics, dictionary = self._pooled[site], self._rulers[site].dictionary
        spectrum = spectrum_from_statistics(statistics)
        eigenvalues = tuple((value.real, value.imag) for value in spectrum.eigenvalues.tolist())
        # All first texts or none: a text without its states would take the place of another.
        lifted = [self._lifted[row][site] for row in sorted(self._lifted) if site in self._lifted[row]]
        if lifted and len(lifted) == len(self._lifted):
            self._activities[site] = mode_activity(lifted, spectrum.eigenvectors, eigenvalues)
        return SiteSpectrum(
            site=site,
            eigenvalues=eigenvalues,
            residuals=tuple(spectrum.residuals.tolist()),
            residual_kind=spectrum.residual_kind,
            condition=spectrum.condition,
            num_pairs=spectrum.num_pairs,
            num_observables=spectrum.num_observables,
            dictionary_digest=dictionary.digest,
            dictionary_report=None if dictionary.report is None else asdict(dictionary.report),
            statistics=statistics,
        )
