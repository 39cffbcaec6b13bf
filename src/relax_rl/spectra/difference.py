"""Whether the latent dynamics of two models differ on the same prompts: a sign-flip test by prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from relax_rl.spectra.measure import LatentSpectra
from relax_rl.statistics.sign_flip import SignFlipTest, sign_flip_test

__all__ = ["SpectraDifference", "prompt_means", "spectra_differences"]

_WITHOUT_DICTIONARY = ("effective_rank", "curvature")
_QUANTITIES = ("max_modulus", "residual_median", *_WITHOUT_DICTIONARY)


@dataclass(frozen=True)
class SpectraDifference:
    """One quantity at one site, second model minus first.

    Attributes:
        quantity: ``dsd/paper``, ``dsd/robust``, ``max_modulus``, ``residual_median``, ``effective_rank``, ...
        first, second: means over the prompts that both have.
        test: test of the difference, paired by prompt.
        same_dictionary: whether both were measured by one dictionary. Where not, a difference of DSD, moduli or
            residuals is one between dictionaries as much as between models.
    """

    site: str
    quantity: str
    first: float
    second: float
    test: SignFlipTest
    same_dictionary: bool

    @property
    def is_of_models(self) -> bool:
        """Whether no dictionary, or one and the same, stands between the models and this."""
        return self.same_dictionary or self.quantity in _WITHOUT_DICTIONARY


def spectra_differences(first: LatentSpectra, second: LatentSpectra) -> list[SpectraDifference]:
    """Every quantity at every site that both models have, over the prompts that both were measured on.

    Several samples of a prompt count as their mean: the prompt is the unit.
    """
    found = []
    sites = [site.site for site in first.sites if site.site in {other.site for other in second.sites}]
    for site in sites:
        same = first[site].dictionary_digest == second[site].dictionary_digest
        for quantity in (*(f"dsd/{estimator}" for estimator in first.settings.estimators), *_QUANTITIES):
            before, after = (prompt_means(spectra, site, quantity) for spectra in (first, second))
            shared = [prompt for prompt in before if prompt in after]
            sides = np.array([[side[prompt] for prompt in shared] for side in (before, after)])
            test = sign_flip_test(sides[1] - sides[0]) if shared else None
            if test is not None:
                found.append(
                    SpectraDifference(site, quantity, float(sides[0].mean()), float(sides[1].mean()), test, same)
                )
    return found


def prompt_means(spectra: LatentSpectra, site: str, quantity: str) -> dict[str, float]:
    """By prompt, the mean over its samples of a quantity; a prompt without any value is absent."""
    values: dict[str, list[float]] = {}
    name, _, estimator = quantity.partition("/")
    for row in spectra.at(site):
        value = row.dsd.get(estimator) if name == "dsd" else getattr(row, name)
        if value is not None and math.isfinite(value):
            values.setdefault(row.id, []).append(value)
    return {prompt: sum(found) / len(found) for prompt, found in values.items()}
