"""The figures of latent spectra as files, each with its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from relax_rl.reports.figure_files import Drawing, save_figures
from relax_rl.reports.spectra import figures
from relax_rl.reports.spectra.tables import EIGENVALUE_COLUMNS, eigenvalue_rows, site_summaries
from relax_rl.spectra.difference import prompt_means
from relax_rl.spectra.measure import LatentSpectra

__all__ = ["write_spectrum_figures"]

_PLANE = ("model", "site", "real", "imaginary", "residual", "kind")
_MODULI = ("model", "site", "modulus")
_LIVES = ("model", "site", "half_life", "residual")
_DEPTH = ("model", "site", "estimator", "prompt", "dsd", "low", "high")
_LENGTHS = ("model", "site", "estimator", "tokens", "dsd")
_GRID = ("model", "site", "real", "imaginary", "smallest_residual")
_PATHS = ("model", "site", "text", "token", "component_1", "component_2")


def write_spectrum_figures(models: Sequence[LatentSpectra], folder: Path) -> list[Path]:
    """Write the figures of the page of one or two models, and return the paths; none where no site has a spectrum.

    Raises:
        RunError: the folder cannot be written.
    """
    models = [spectra for spectra in models if spectra.sites]
    if not models:
        return []
    drawn: list[Drawing] = [
        ("planes", figures.draw_planes(models), _PLANE, _eigenvalues(models, _PLANE)),
        ("moduli", figures.draw_moduli(models), _MODULI, _eigenvalues(models, _MODULI)),
        ("half_lives", figures.draw_half_lives(models), _LIVES, _eigenvalues(models, _LIVES)),
        ("depth", figures.draw_depth(models), _DEPTH, list(_depth_rows(models))),
        ("lengths", figures.draw_lengths(models), _LENGTHS, list(_length_rows(models))),
        ("pseudospectra", figures.draw_pseudospectra(models), _GRID, list(_grid_rows(models))),
        ("paths", figures.draw_paths(models[0]), _PATHS, list(_path_rows(models[0]))),
    ]
    return save_figures(drawn, folder)


def _eigenvalues(models: Sequence[LatentSpectra], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Some columns of the pooled eigenvalues."""
    places = [EIGENVALUE_COLUMNS.index(name) for name in columns]
    return [tuple(row[place] for place in places) for spectra in models for row in eigenvalue_rows(spectra)]


def _depth_rows(models: Sequence[LatentSpectra]) -> Iterator[tuple[Any, ...]]:
    """A row a prompt, without an interval, then the mean of the site, without a prompt."""
    for spectra in models:
        for summary in site_summaries(spectra):
            for name, mean in summary.dsd.items():
                where = (spectra.model, summary.site, name)
                for prompt, value in prompt_means(spectra, summary.site, f"dsd/{name}").items():
                    yield (*where, prompt, value, None, None)
                if mean is not None:
                    yield (*where, None, mean.value, mean.low, mean.high)


def _length_rows(models: Sequence[LatentSpectra]) -> Iterator[tuple[Any, ...]]:
    for spectra in models:
        for site in spectra.sites:
            for name in spectra.settings.estimators:
                for tokens, value in zip(*figures.length_curve(spectra, site.site, name), strict=True):
                    yield (spectra.model, site.site, name, int(tokens), float(value))


def _grid_rows(models: Sequence[LatentSpectra]) -> Iterator[tuple[Any, ...]]:
    """The upper half-plane; the lower is its mirror image."""
    for spectra in models:
        site, grid = spectra.sites[-1], spectra.sites[-1].pseudospectrum
        if grid is None:
            continue
        for imaginary, row in zip(grid.imaginary, grid.values, strict=True):
            yield from (
                (spectra.model, site.site, x, imaginary, value) for x, value in zip(grid.real, row, strict=True)
            )


def _path_rows(spectra: LatentSpectra) -> Iterator[tuple[Any, ...]]:
    for path in spectra.paths:
        for token, point in enumerate(path.points):
            yield (spectra.model, path.site, path.id, token, *point)
