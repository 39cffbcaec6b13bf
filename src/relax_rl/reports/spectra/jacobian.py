"""The page about spectra without a fit: exponents beside what fits of the same states say, and single Jacobians."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relax_rl.reports.canvas import INK, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download, figure
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.ranking import interval_text
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.spectra.jacobian import JacobianSpectrum

__all__ = [
    "EXPONENT_COLUMNS",
    "EXPONENT_HEAD",
    "POINT_HEAD",
    "exponent_cells",
    "exponent_rows",
    "point_cells",
    "verdicts",
    "write_jacobian_page",
]

EXPONENT_COLUMNS = ("number", "exponent", "low", "high", "log_modulus_least_squares", "log_modulus_instrumental")
EXPONENT_HEAD = ("", "exponent [95 % interval]", "factor a token", "least squares: log |λ|", "instrumental: log |λ|")
POINT_HEAD = ("text", "token", "singular values", "|eigenvalues|", "residual")
_VARIANTS = ("least_squares", "instrumental")
_FITS: Mapping[str, str] = {"least_squares": "least squares", "instrumental": "the instrumental estimator"}


def write_jacobian_page(found: JacobianSpectrum, source: str, command: Sequence[str], output: Path) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    title = f"Jacobians of {Path(found.model).name}: how long does a change of the state last?"
    sections = [_answer(found), *([_points(found)] if found.points else [])]
    sections.append(download("jacobian.csv", EXPONENT_COLUMNS, exponent_rows(found)))
    return write_page(title, source, sections, command, output)


def exponent_rows(found: JacobianSpectrum) -> list[tuple[int, float, float, float, float | None, float | None]]:
    """Rows of `EXPONENT_COLUMNS`."""
    return [
        (
            place + 1,
            each.value,
            each.low,
            each.high,
            _fitted(found, "least_squares", place),
            _fitted(found, "instrumental", place),
        )
        for place, each in enumerate(found.exponents)
    ]


def exponent_cells(found: JacobianSpectrum) -> list[list[str]]:
    """Rows of `EXPONENT_HEAD`: for the page and for the terminal."""
    return [
        [
            str(place + 1),
            interval_text(each, "+.2f"),
            f"{math.exp(each.value):.3g}",
            *(
                "–" if value is None else f"{value:+.2f}"
                for value in (_fitted(found, name, place) for name in _VARIANTS)
            ),
        ]
        for place, each in enumerate(found.exponents)
    ]


def point_cells(found: JacobianSpectrum) -> list[list[str]]:
    """Rows of `POINT_HEAD`: for the page and for the terminal."""
    return [
        [
            point.id,
            str(point.position),
            " ".join(f"{value:.3g}" for value in point.singular_values),
            " ".join(f"{math.hypot(*value):.3g}" for value in point.eigenvalues),
            f"{point.residuals[0]:.1e}",
        ]
        for point in found.points
    ]


def verdicts(found: JacobianSpectrum) -> list[str]:
    """The first exponent beside the slowest mode of each fit, a sentence a fit; then the remarks."""
    first = found.exponents[0]
    said = []
    for name, logs in found.fitted.items():
        fit = f"The slowest mode by {_FITS[name]} has a log |λ| of {logs[0]:+.2f}"
        measured = f"the first exponent, {interval_text(first, '+.2f')}"
        if first.low <= logs[0] <= first.high:
            said.append(f"{fit}, which agrees with {measured}.")
        elif logs[0] > first.high:
            said.append(f"{fit}, above {measured}: the text carries it on, and not the state.")
        else:
            said.append(f"{fit}, below {measured}: changes outlast it, as in chaos or under noise.")
    return [*said, *found.remarks]


def _fitted(found: JacobianSpectrum, variant: str, place: int) -> float | None:
    logs = found.fitted.get(variant, ())
    return logs[place] if place < len(logs) else None


def _answer(found: JacobianSpectrum) -> Html:
    note = (
        "Exponent: mean logarithm of the growth of a small change of the final state, a token; below 0 the change is "
        f"forgotten. Mean over {found.num_texts} texts ({found.num_tokens} tokens) with its 95 % interval over texts. "
        "log |λ|: of operators fitted on the states of the same tokens. Both are one number only where the fitted map "
        "is the one that the Jacobian derives."
    )
    table = cells_table(EXPONENT_HEAD, exponent_cells(found), "Exponents")
    picture = figure(
        svg_source(_draw(found)),
        "Exponents with their intervals, beside the log moduli of both fits",
        "Black: exponents, measured without a fit. Read: a fit far above them shows persistence of the text.",
    )
    said = element("ul", *(element("li", words) for words in verdicts(found)))
    return noted_section("Do fit and Jacobian agree?", table, said, note=note, below=[picture])


def _points(found: JacobianSpectrum) -> Html:
    note = (
        "One Jacobian a row. The largest singular value says how far one token can stretch a change of the state; "
        "the largest |eigenvalue| is its growth if the Jacobian stayed the same. Residual: |Jv - λv| of the largest; "
        "large where the iteration has not converged."
    )
    table = cells_table(POINT_HEAD, point_cells(found), "Single Jacobians")
    return noted_section("Single tokens", table, note=note)


def _draw(found: JacobianSpectrum) -> Figure:
    drawn = Figure(figsize=(4.6, 3.0), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    numbers = range(1, len(found.exponents) + 1)
    values = [each.value for each in found.exponents]
    spread = [[each.value - each.low for each in found.exponents], [each.high - each.value for each in found.exponents]]
    ax.errorbar(numbers, values, yerr=spread, color=INK, marker="o", markersize=4, linewidth=1.2, label="exponent")
    for place, (name, logs) in enumerate(found.fitted.items()):
        label = f"log |λ|, {name.replace('_', ' ')}"
        ax.plot(
            range(1, len(logs) + 1), logs, color=color_of(place), marker="s", markersize=4, linewidth=1, label=label
        )
    ax.axhline(0, color=INK, linewidth=0.7, linestyle=":")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("number, largest first", fontsize=8.5, color=INK)
    ax.set_ylabel("growth a token (log)", fontsize=8.5, color=INK)
    ax.legend(fontsize=8, frameon=False)
    return drawn
