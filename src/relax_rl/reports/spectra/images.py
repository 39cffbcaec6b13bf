"""The page about what an image does: divergence token by token, and the dynamics under each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from relax_rl.evaluation.sight.result import ConditionSight, SightResult, SiteSight, TokenSight
from relax_rl.reports.canvas import INK, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download, figure
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.page import summary_cells
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.reports.spectra.tables import site_summaries
from relax_rl.reports.thumbnails import Thumbnails
from relax_rl.spectra.measure import LatentSpectra
from relax_rl.statistics.intervals import Estimate
from relax_rl.tasks.images.picture import Picture

__all__ = [
    "CONDITION_COLUMNS",
    "TOKEN_COLUMNS",
    "condition_rows",
    "site_columns",
    "site_rows",
    "token_rows",
    "write_images_page",
]

CONDITION_COLUMNS = ("condition", "problems", "KL a token", "first 8", "last 8", "same choice")
TOKEN_COLUMNS = ("problem", "condition", "position", "token", "kl")
_SHADES = 10
"""Steps of the background of a token."""


def condition_rows(sight: SightResult) -> list[list[str]]:
    """Cells of `CONDITION_COLUMNS`, as text: for the page and for the terminal."""
    return [
        [
            condition.name,
            str(condition.num_problems),
            *(_estimate(each, 3) for each in (condition.kl, condition.kl_first, condition.kl_last)),
            _estimate(condition.same_choice, 3),
        ]
        for condition in sight.conditions
    ]


def site_columns(sight: SightResult) -> tuple[str, ...]:
    """The columns of `site_rows`."""
    estimators = _estimators(sight)
    dsd = (name for one in estimators for name in (f"DSD {one}", "change"))
    return ("site", "condition", "distance", "error", "change of error", "angle", *dsd)


def site_rows(sight: SightResult) -> list[list[str]]:
    """One row a site and condition, sites in order of depth."""
    found: list[list[str]] = []
    for place, site in enumerate(sight.chance_angle):
        for condition in sight.conditions:
            if not condition.sites:
                continue
            row = condition.sites[place]
            angle = _estimate(row.angle, 1)
            if condition.name == "true":
                chance = sight.chance_angle[site]
                angle = "–" if chance is None else f"{chance:.1f} by chance"
            found.append([site, condition.name, *_site_cells(row), angle, *_dsd_cells(row, _estimators(sight))])
    return found


def _site_cells(row: SiteSight) -> list[str]:
    return [_estimate(row.distance, 3), _estimate(row.error, 3), _estimate(row.error_change, 3, signed=True)]


def _dsd_cells(row: SiteSight, estimators: Sequence[str]) -> list[str]:
    return [
        cell
        for one in estimators
        for cell in (_estimate(row.dsd.get(one), 4), _estimate(row.dsd_change.get(one), 4, signed=True))
    ]


def _estimators(sight: SightResult) -> list[str]:
    return list(sight.conditions[0].sites[0].dsd) if sight.conditions[0].sites else []


def token_rows(sight: SightResult) -> list[tuple[str, str, int, str, float]]:
    """Rows of `TOKEN_COLUMNS`, of the completions that are shown."""
    return [
        (shown.id, name, place, token, value)
        for shown in sight.tokens
        for name, values in shown.kl.items()
        for place, (token, value) in enumerate(zip(shown.tokens, values, strict=True))
    ]


def _estimate(estimate: Estimate | None, digits: int, *, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    sign = "+" if signed else ""
    value, low, high = (f"{number:{sign}.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def write_images_page(
    sight: SightResult,
    spectra: Sequence[LatentSpectra],
    pictures: Mapping[str, Sequence[Picture]],
    command: Sequence[str],
    output: Path,
) -> Path:
    """Write one self-contained HTML file.

    Args:
        spectra: spectra of completion tokens and of image tokens.
        pictures: pictures of the problems whose tokens are shown, by id.

    Raises:
        RunError: it cannot be written.
    """
    title = f"What the image does to {Path(sight.model).name}"
    sections = [_conditions(sight), _tokens(sight, pictures), _sites(sight), _spectra(spectra)]
    return write_page(title, sight.source, sections, command, output)


def _conditions(sight: SightResult) -> Html:
    note = (
        "KL: mean divergence, in nats, of the next-token distribution under the condition from that under the true "
        "image, at the tokens of the same completion; 0 says that the image changes nothing. Same choice: share of "
        "tokens at which the most likely token stays. In brackets 95 % intervals by bootstrap over questions. "
        + " ".join(f"{one.name}: {one.about}." for one in sight.conditions)
    )
    drawn = figure(
        svg_source(_draw_profiles(sight.conditions)),
        "KL along the completions",
        "Mean KL in each tenth of the completions. Read: a curve that falls is a completion that looks at the image at "
        "its beginning, and follows its own words later.",
    )
    table = cells_table(CONDITION_COLUMNS, condition_rows(sight), "Next tokens by condition", "results")
    return noted_section("Next tokens", table, note=note, below=[drawn])


def _draw_profiles(conditions: Sequence[ConditionSight]) -> Figure:
    drawn = Figure(figsize=(6.4, 3.2), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    for place, condition in enumerate(one for one in conditions if one.kl_profile):
        values = [np.nan if value is None else value for value in condition.kl_profile]
        ax.plot(range(1, len(values) + 1), values, marker="o", ms=3, color=color_of(place), label=condition.name)
    ax.set_xlabel("tenth of the completion", fontsize=8.5, color=INK)
    ax.set_ylabel("KL, nats a token", fontsize=8.5, color=INK)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8, frameon=False)
    return drawn


def _tokens(sight: SightResult, pictures: Mapping[str, Sequence[Picture]]) -> Html:
    if not sight.tokens or not sight.tokens[0].kl:
        return element("section")
    thumbnails = Thumbnails()
    shown = next(iter(sight.tokens[0].kl))
    highest = max((value for one in sight.tokens for value in one.kl.get(shown, ())), default=0.0)
    parts = [element("h2", "Which tokens look at the image")]
    for one in sight.tokens:
        own = pictures.get(one.id, ())
        names = [picture.name or f"{one.id}#{place}" for place, picture in enumerate(own, 1)]
        parts.append(element("p", thumbnails.of_pictures(own, names)))
        parts.append(element("p", one.question, class_="note"))
        parts.append(element("pre", *_shaded(one, shown, highest)))
    parts.append(
        element(
            "p",
            f"The darker a token, the larger its KL under the condition {shown} (darkest: {highest:.2f} nats). "
            "tokens.csv has every number.",
            class_="note",
        )
    )
    parts.append(download("tokens.csv", TOKEN_COLUMNS, token_rows(sight)))
    return element("section", *parts)


def _shaded(one: TokenSight, condition: str, highest: float) -> list[Html]:
    found: list[Html] = []
    for token, value in zip(one.tokens, one.kl.get(condition, ()), strict=False):
        share = round(_SHADES * value / highest) / _SHADES if highest else 0.0
        style = f"background: rgba(213, 94, 0, {0.7 * share:.2f})"
        found.append(element("span", token, style=style, title=f"{value:.3f} nats"))
    return found


def _sites(sight: SightResult) -> Html:
    note = (
        "Distance: of the states from those under the true image, as a share of the distance between two problems. "
        "Error: share of the variance of the next lifted state that the operator of the true image, fitted on other "
        f"questions, leaves unexplained. Angle: mean principal angle in degrees between the {sight.num_modes} leading "
        "modes of this condition's operator and those of the true image; by chance: between two halves of the "
        "questions under the true image. DSD by estimator, with its change from the true image in the same problems. "
        "In brackets 95 % intervals by bootstrap over questions. Read: a change whose interval holds 0 is none."
    )
    table = cells_table(site_columns(sight), site_rows(sight), "By site and condition", "results")
    return noted_section("Latent dynamics", table, note=note)


def _spectra(spectra: Sequence[LatentSpectra]) -> Html:
    estimators = spectra[0].settings.estimators
    names = ("site", *(f"DSD {name}" for name in estimators), "defined", "max |λ|", "residual", "condition", "N / F")
    rows = [[each.model, *summary_cells(summary, estimators)] for each in spectra for summary in site_summaries(each)]
    note = (
        "Under the true image, each kind of token with dictionaries of its own, so that DSD cannot be compared between "
        "them. Image tokens are taken in their order, row by row."
    )
    label = "Spectra of completion and image tokens"
    table = cells_table(("tokens", *names, "dictionary"), rows, label, "results")
    return noted_section("Completion tokens and image tokens", table, note=note)
