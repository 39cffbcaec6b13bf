"""From a mode of a spectrum to the tokens where it is active, and to the texts that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relax_rl.reports.spectra.points import eigenvalue_point
from relax_rl.spectra.measure import LatentSpectra

__all__ = ["mode_view", "spectrum_modes"]

Texts = Sequence[tuple[str, Sequence[str], Sequence[str]]]
"""Name, tokens, and one string of digits a mode for each text."""


def mode_view(
    title: str,
    eigenvalues: Sequence[tuple[float, float]],
    residuals: Sequence[float],
    places: Sequence[int],
    texts: Texts,
) -> dict[str, Any]:
    """The modes of a spectrum in words, and their strength at the tokens of some texts."""
    modes = [eigenvalue_point(*eigenvalues[place], residuals[place])[4] for place in places]
    shown = [
        {"name": name, "tokens": list(tokens), "strengths": [digits[: len(tokens)] for digits in strengths]}
        for name, tokens, strengths in texts
    ]
    return {"title": title, "modes": modes, "texts": shown}


def spectrum_modes(models: Sequence[LatentSpectra], name_of: Callable[[str], str]) -> dict[str, Any]:
    """Modes of each site of models whose tokens are known, by the title of their plane.

    Args:
        name_of: name of a text, by its id.
    """
    found: dict[str, Any] = {}
    for spectra in models:
        for site in spectra.sites:
            activity = spectra.activities.get(site.site)
            if activity is None or len(spectra.pieces) != len(activity.strengths):
                continue
            title = f"{spectra.model}, {site.site}" if len(models) > 1 else site.site
            names = [name_of(row.id) for row in spectra.at(site.site)[: len(spectra.pieces)]]
            texts = list(zip(names, spectra.pieces, activity.strengths, strict=True))
            found[title] = mode_view(title, site.eigenvalues, site.residuals, activity.places, texts)
    return found
