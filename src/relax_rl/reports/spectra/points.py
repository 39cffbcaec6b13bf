"""Eigenvalues and trajectories as points that the page's scripts draw, with what each says when it is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from relax_rl.reports.payload import rounded
from relax_rl.reports.spectra.figures import PATH_WINDOW
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL
from relax_rl.reports.spectra.tables import half_life
from relax_rl.spectra.measure import LatentSpectra, SiteSpectrum

__all__ = ["eigenvalue_point", "mode_numbers", "spectrum_data"]

_MOST_POINTS = 400
"""Most points of a path: more are thinned out."""


def eigenvalue_point(real: float, imaginary: float, residual: float | None, is_vacuous: bool = False) -> list[Any]:
    """A point of a plane: where, whether it is hollow, how dark, and what it says."""
    modulus, angle = math.hypot(real, imaginary), math.atan2(imaginary, real)
    life = half_life(modulus)
    half = "does not decay" if math.isinf(life) else f"half-life {life:.3g} tokens"
    turn = "" if abs(angle) < 1e-9 else f", period {2 * math.pi / abs(angle):.3g} tokens"
    spurious = is_vacuous or residual is None or not residual < SPURIOUS_RESIDUAL
    said = "" if residual is None else f", residual {residual:.2f}{' (spurious)' if spurious else ''}"
    text = f"λ = {real:.3f}{imaginary:+.3f}i, |λ| {modulus:.3f}, {half}{turn}{said}"
    return [rounded(real), rounded(imaginary), spurious, 0.9 if spurious else rounded(1 - 0.8 * (residual or 0)), text]


def spectrum_data(
    models: Sequence[LatentSpectra], name_of: Callable[[str], str], modes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The data of the scripts of a spectrum's page: a plane a site, with the depth as the slider; the paths of texts.

    Args:
        name_of: name of a text, by its id.
        modes: by the title of a plane, the modes that can be followed to their tokens.
    """
    known = modes or {}
    names = list(dict.fromkeys(site.site for spectra in models for site in spectra.sites))
    largest = max((modulus for spectra in models for site in spectra.sites for modulus in site.moduli), default=1.0)
    extent = 1.1 * min(2.0, max(1.0, largest))
    views = [
        [
            _plane(spectra, site, extent, f"{spectra.model}, {name}" if len(models) > 1 else name, known)
            for spectra in models
            for site in spectra.sites
            if site.site == name
        ]
        for name in names
    ]
    planes = {"planes": {"name": "site", "steps": names, "views": views}} if names else {}
    paths = [_paths(models[0], name, name_of) for name in names if any(p.site == name for p in models[0].paths)]
    if paths:
        planes["paths"] = {"name": "", "steps": [""], "views": [paths]}
    return {"version": None, "planes": planes, "modes": known}


def mode_numbers(eigenvalues: Sequence[tuple[float, float]], places: Sequence[int]) -> list[int | None]:
    """For each eigenvalue, the number of its mode among those at `places`; that of its conjugate where it is one."""
    number = {eigenvalues[place]: at for at, place in enumerate(places) if 0 <= place < len(eigenvalues)}
    return [number.get((real, imaginary), number.get((real, -imaginary))) for real, imaginary in eigenvalues]


def _plane(
    spectra: LatentSpectra, site: SiteSpectrum, extent: float, title: str, modes: Mapping[str, Any]
) -> dict[str, Any]:
    is_vacuous = site.residual_kind == "vacuous"
    pairs = zip(site.eigenvalues, site.residuals, strict=True)
    points = [eigenvalue_point(*value, residual, is_vacuous) for value, residual in pairs]
    look: dict[str, Any] = {"x": "Re λ", "y": "Im λ", "circle": True, "equal": True, "range": extent}
    if title in modes:
        look["modes"] = title
        numbers = mode_numbers(site.eigenvalues, spectra.activities[site.site].places)
        points = [[*point, number] for point, number in zip(points, numbers, strict=True)]
    return {"title": title, **look, "series": [{"label": title, "color": 0, "points": points}]}


def _paths(spectra: LatentSpectra, site: str, name_of: Callable[[str], str]) -> dict[str, Any]:
    series: list[dict[str, Any]] = []
    for place, path in enumerate(path for path in spectra.paths if path.site == site):
        points = np.array(path.points).reshape(-1, 2)
        shown = range(0, len(points), max(1, len(points) // _MOST_POINTS))
        drawn = [
            [rounded(points[at, 0]), rounded(points[at, 1]), False, 0.5, f"token {at + 1} of {len(points)}"]
            for at in shown
            if np.isfinite(points[at]).all()
        ]
        label = name_of(path.id)
        series.append({"label": label, "color": place, "size": 2, "points": drawn})
        window = min(PATH_WINDOW, len(points))
        mean = [[rounded(part.mean()) for part in points[at : at + window].T] for at in range(len(points) - window + 1)]
        line = [[*point, False, 1, ""] for point in mean[:: max(1, len(mean) // _MOST_POINTS)] if None not in point]
        series.append({"label": label, "color": place, "line": True, "dots": False, "points": line})
    return {"title": site, "x": "component 1", "y": "component 2", "series": series, "clip": True}
