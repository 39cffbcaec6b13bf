"""The numbers of latent spectra as rows: a site a row, a text and site a row, and what a reader must be told."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from relax_rl.spectra.difference import SpectraDifference, prompt_means
from relax_rl.spectra.measure import EXPLOSIVE_MODULUS, LatentSpectra, SiteSpectrum
from relax_rl.spectra.rulers import TrajectorySpectrum
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = [
    "DIFFERENCE_COLUMNS",
    "EIGENVALUE_COLUMNS",
    "TRAJECTORY_COLUMNS",
    "SiteSummary",
    "difference_rows",
    "eigenvalue_rows",
    "half_life",
    "remarks",
    "site_summaries",
    "trajectory_rows",
]

EIGENVALUE_COLUMNS = ("model", "site", "real", "imaginary", "modulus", "half_life", "residual", "kind", "dictionary")
TRAJECTORY_COLUMNS = (
    *("model", "prompt", "site", "tokens", "finite", "max_modulus", "residual_kind", "residual_median"),
    *("spurious_share", "condition", "clamped", "effective_rank", "curvature", "dictionary"),
)
DIFFERENCE_COLUMNS = (
    *("site", "quantity", "first", "second", "difference", "low", "high", "p", "prompts", "same_dictionary"),
)


@dataclass(frozen=True)
class SiteSummary:
    """A site in one row.

    Attributes:
        dsd: by estimator, mean over prompts with a 95 % interval by bootstrap over prompts; None where no text has one.
        defined: by estimator, the share of texts that have one.
        max_modulus: median over texts of the largest |eigenvalue|.
        residual_kinds: how many texts have residuals of which kind.
        residual_median: median over texts of their median residual; None where all are vacuous.
        condition: median over texts.
        num_explosive: texts with an eigenvalue beyond 1.5.
        num_clamped: nearly defective modes, of all texts.
        pooled: the spectrum of all texts together.
    """

    site: str
    num_texts: int
    dsd: dict[str, Estimate | None]
    defined: dict[str, float]
    max_modulus: float | None
    residual_kinds: dict[str, int]
    residual_median: float | None
    condition: float | None
    num_explosive: int
    num_clamped: int
    pooled: SiteSpectrum

    @property
    def residual_kind(self) -> str:
        """The kind that most texts have."""
        return max(self.residual_kinds, key=self.residual_kinds.__getitem__)


def site_summaries(spectra: LatentSpectra) -> list[SiteSummary]:
    """One a site that has a spectrum, in order of depth."""
    return [_summary(spectra, pooled) for pooled in spectra.sites]


def _summary(spectra: LatentSpectra, pooled: SiteSpectrum) -> SiteSummary:
    rows = spectra.at(pooled.site)
    estimators = spectra.settings.estimators
    means = {name: list(prompt_means(spectra, pooled.site, f"dsd/{name}").values()) for name in estimators}
    return SiteSummary(
        site=pooled.site,
        num_texts=len(rows),
        dsd={name: bootstrap_mean(values) for name, values in means.items()},
        defined={name: sum(row.dsd.get(name) is not None for row in rows) / len(rows) for name in estimators},
        max_modulus=_median(row.max_modulus for row in rows),
        residual_kinds=dict(Counter(row.residual_kind for row in rows)),
        residual_median=_median(row.residual_median for row in rows),
        condition=_median(row.condition for row in rows),
        num_explosive=sum(_is_explosive(row) for row in rows),
        num_clamped=sum(row.num_clamped for row in rows),
        pooled=pooled,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _is_explosive(row: TrajectorySpectrum) -> bool:
    return row.max_modulus is not None and row.max_modulus > EXPLOSIVE_MODULUS


def half_life(modulus: float) -> float:
    """Tokens after which half of a mode is left, ln 2 / -ln |lambda|; infinite for one that does not decay."""
    if modulus >= 1:
        return math.inf
    return math.log(2) / -math.log(modulus) if modulus > 0 else 0.0


def remarks(spectra: LatentSpectra) -> list[str]:
    """Reasons why the numbers say less than they seem to, one sentence each; none where all is well."""
    found = []
    summaries = site_summaries(spectra)
    if not summaries:
        found.append("No site has a spectrum: every text is too short or its states are not finite.")
    for summary in summaries:
        if summary.num_explosive:
            found.append(
                f"{summary.site}: {summary.num_explosive} of {summary.num_texts} texts have an eigenvalue beyond "
                f"{EXPLOSIVE_MODULUS:g}, which no bounded trajectory has: their regressions are ill-posed, and DSD "
                "'paper' there measures that."
            )
        if vacuous := summary.residual_kinds.get("vacuous", 0):
            found.append(
                f"{summary.site}: the residuals of {vacuous} of {summary.num_texts} texts are vacuous (no more "
                "tokens than directions): nothing can be said of their eigenvalues."
            )
    undefined = {
        name: len(rows)
        for name in spectra.settings.estimators
        if summaries and (rows := [r for r in spectra.at(summaries[-1].site) if r.dsd.get(name) is None])
    }
    for name, count in undefined.items():
        found.append(
            f"DSD '{name}' is not defined for {count} of {summaries[-1].num_texts} texts, which are too short for "
            f"{spectra.settings.num_observables} observables; give longer texts, or fewer --observables."
        )
    broken = sum(not row.is_finite for row in spectra.trajectories)
    if broken:
        found.append(f"{broken} trajectories hold NaN or Inf and were left out.")
    return found


def trajectory_rows(spectra: LatentSpectra) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Header and rows for a CSV file, one a text and site; None where there is no value."""
    estimators = spectra.settings.estimators
    header = (*TRAJECTORY_COLUMNS, *(f"dsd_{name}" for name in estimators))
    digests = {site.site: site.dictionary_digest for site in spectra.sites}
    rows = [
        (
            *(spectra.model, row.id, row.site, row.num_tokens, row.is_finite, row.max_modulus, row.residual_kind),
            *(row.residual_median, row.spurious_share, row.condition, row.num_clamped, row.effective_rank),
            *(row.curvature, digests.get(row.site)),
            *(row.dsd.get(name) for name in estimators),
        )
        for row in spectra.trajectories
    ]
    return header, rows


def eigenvalue_rows(spectra: LatentSpectra) -> list[tuple[Any, ...]]:
    """Rows of `EIGENVALUE_COLUMNS`, of the pooled spectra."""
    return [
        (
            spectra.model,
            site.site,
            *value,
            modulus,
            half_life(modulus),
            residual,
            site.residual_kind,
            site.dictionary_digest,
        )
        for site in spectra.sites
        for value, modulus, residual in zip(site.eigenvalues, site.moduli, site.residuals, strict=True)
    ]


def difference_rows(differences: Sequence[SpectraDifference]) -> list[tuple[Any, ...]]:
    """Rows of `DIFFERENCE_COLUMNS`."""
    return [(d.site, d.quantity, d.first, d.second, *vars(d.test).values(), d.same_dictionary) for d in differences]
