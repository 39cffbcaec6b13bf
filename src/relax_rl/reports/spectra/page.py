"""The page about latent spectra: what was read, the numbers by site and text, and each figure with what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from relax_rl.reports.canvas import svg_source
from relax_rl.reports.document import (
    command_line,
    document,
    download,
    figure,
    footer,
    listed,
    part,
    still,
    wide,
    wide_table,
    write_document,
)
from relax_rl.reports.header import contents
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra import figures
from relax_rl.reports.spectra.modes import spectrum_modes
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL
from relax_rl.reports.spectra.points import spectrum_data
from relax_rl.reports.spectra.tables import (
    DIFFERENCE_COLUMNS,
    EIGENVALUE_COLUMNS,
    SiteSummary,
    difference_rows,
    eigenvalue_rows,
    remarks,
    site_summaries,
    trajectory_rows,
)
from relax_rl.spectra.difference import SpectraDifference
from relax_rl.spectra.measure import LatentSpectra
from relax_rl.statistics.intervals import Estimate

__all__ = ["SpectrumPage", "write_spectrum_page"]

_MOST_TEXTS = 50
_NAME_LENGTH = 60


@dataclass(frozen=True)
class SpectrumPage:
    """The contents of the page.

    Attributes:
        models: one, or two to be compared.
        differences: between the two.
        source: the texts that were read, in words.
        command: command that made it.
        excerpts: prompt and text of the first texts; untrusted.
        names: the prompt of a text, by the text's id; untrusted.
    """

    models: Sequence[LatentSpectra]
    differences: Sequence[SpectraDifference] = ()
    source: str = ""
    command: Sequence[str] = ()
    excerpts: Sequence[tuple[str, str]] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, identity: str) -> str:
        """The beginning of a text's prompt, by which a reader knows it; its id where the prompt is unknown."""
        words = " ".join(self.names.get(identity, identity).split())
        return words if len(words) <= _NAME_LENGTH else words[: _NAME_LENGTH - 1] + "…"


def write_spectrum_page(page: SpectrumPage, output: Path) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    title = f"Latent dynamics of {listed([_short(spectra.model) for spectra in page.models])}"
    header = element("header", element("h1", title), element("p", page.source, class_="lead"))
    sections = [header, _numbers(page), *([_differences(page)] if len(page.models) > 1 else []), *_drawn(page)]
    sections += [_texts(page), _excerpts(page), _settings(page), footer()]
    data = spectrum_data(page.models, page.name_of, spectrum_modes(page.models, page.name_of))
    sections = [section for section in sections if section]
    return write_document(document(title, [contents(sections), *sections], data), output)


def _numbers(page: SpectrumPage) -> Html:
    estimators = page.models[0].settings.estimators
    names = ("site", *(f"DSD {name}" for name in estimators), "defined", "max |λ|", "residual", "condition", "N / F")
    head = element("tr", *(element("th", name) for name in ("model", *names, "dictionary")))
    rows = []
    for spectra in page.models:
        for position, summary in enumerate(site_summaries(spectra)):
            label = element("td", spectra.model if position == 0 else "", class_="run")
            cells = [element("td", text) for text in summary_cells(summary, estimators)]
            rows.append(element("tr", label, *cells, class_="first" if position == 0 else ""))
    note = (
        "DSD, the spread of the moduli, is the mean over prompts, in brackets its 95 % interval by bootstrap over "
        "prompts; the share of texts for which it is defined follows. max |λ|, residual and condition are medians over "
        "texts: a largest modulus well above 1 means an ill-posed regression; a residual says how far an eigenpair is "
        "from being one (0: exactly, 1: not at all), with its kind. N / F: snapshot pairs and observables of all texts "
        "together. Numbers under different dictionaries cannot be compared; each site has its own, named by its digest."
    )
    described = [
        element("li", remark if len(page.models) == 1 else f"{spectra.model}: {remark}")
        for spectra in page.models
        for remark in remarks(spectra)
    ]
    return element(
        "section",
        element("h2", "By site", id="sites"),
        wide_table(element("thead", head), element("tbody", *rows), class_="results", label="By site"),
        element("p", note, class_="note"),
        *([element("p", "Before you trust these numbers:"), element("ul", *described)] if described else []),
    )


def summary_cells(summary: SiteSummary, estimators: Sequence[str]) -> list[str]:
    """The cells of a site's row, as text: for the page and for the terminal."""
    defined = "/".join(f"{100 * summary.defined[name]:.0f}" for name in estimators)
    residual = (
        "vacuous" if summary.residual_median is None else f"{summary.residual_median:.2f} {summary.residual_kind}"
    )
    return [
        summary.site,
        *(_estimate(summary.dsd[name]) for name in estimators),
        f"{defined} %",
        "–" if summary.max_modulus is None else f"{summary.max_modulus:.3f}",
        residual,
        "–" if summary.condition is None else f"{summary.condition:.1e}",
        f"{summary.pooled.num_pairs} / {summary.pooled.num_observables}",
        summary.pooled.dictionary_digest[:8],
    ]


def _short(model: str) -> str:
    """A path's last part: a title need not say where a model lies."""
    return Path(model).name if Path(model).is_absolute() else model


def _unbroken(text: str) -> str:
    """In one line: spaces that do not break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.3g} [{estimate.low:.2g}, {estimate.high:.2g}]"


def _differences(page: SpectrumPage) -> Html:
    first, second = page.models
    head = element(
        "tr", *(element("th", name) for name in ("site", "quantity", first.model, second.model, "difference", "p", "n"))
    )
    rows = []
    for d in page.differences:
        interval = "too few prompts" if math.isinf(d.test.low) else f"[{d.test.low:+.3g}, {d.test.high:+.3g}]"
        value = element("b" if d.test.p_value < 0.05 else "span", f"{d.test.value:+.3g}")
        mark = "" if d.is_of_models else " *"
        cells = (d.site, d.quantity + mark, f"{d.first:.4g}", f"{d.second:.4g}")
        rows.append(
            element(
                "tr",
                *(element("td", cell) for cell in cells),
                element("td", value, " ", element("span", interval, class_="missing")),
                element("td", f"{d.test.p_value:.3g}"),
                element("td", str(d.test.num_pairs)),
            )
        )
    note = (
        f"{second.model} minus {first.model}, paired by prompt: sign-flip test over prompts, with the interval of the "
        "shifts that it does not reject at 5 %. p-values are not corrected for their number. A star: measured under "
        "two dictionaries, so that the difference is between dictionaries as much as between models."
    )
    return element(
        "section",
        element("h2", "Do the two differ?", id="differences", data_name="Differences"),
        wide("table", element("thead", head), element("tbody", *rows)),
        element("p", note, class_="note"),
        download("differences.csv", DIFFERENCE_COLUMNS, difference_rows(page.differences)),
    )


def _drawn(page: SpectrumPage) -> list[Html]:
    """The figures, each under the question that it answers."""
    models = [spectra for spectra in page.models if spectra.sites]
    if not models:
        return []
    last = models[0].sites[-1].site
    both = " The second model is dashed." if len(models) > 1 else ""
    parts = [
        _section(
            "Modes",
            "Which modes are there?",
            figures.draw_planes(models),
            "Eigenvalues of the operator that takes a token's state to the next one's, one operator for all texts of a "
            "site, with the unit circle. Distance from the origin is what a mode keeps in one token, angle how fast it "
            f"oscillates. Strong colour: an eigenpair to believe; hollow grey: a residual of {SPURIOUS_RESIDUAL:g} or "
            "more, or vacuous. The point at 1 is the mean of all states. Read: other points near the circle, and of "
            "strong colour, are what the sequence of states keeps over many tokens, through the text or through the "
            "state; relax spectrum --jacobian tells which.",
            "planes",
        ),
        _mode_section(models),
        _section(
            "Decay",
            "How slowly do they fade?",
            figures.draw_moduli(models),
            "The same moduli in falling order. Read: the more of a line lies high, the more of the state outlives a "
            "token; its spread is what DSD measures. The first mode, near 1, is the mean of the states.",
        ),
        _section(
            "Half-lives",
            "Over how many tokens is something remembered?",
            figures.draw_half_lives(models),
            "Half-life of each mode against its residual. Dashed: the residual that a least-squares mode of this "
            "half-life has on any stationary process, of pure chance too. Read: how far right the points go is how "
            "long states remember; only points below the dashed line evolve more exactly than a random process with "
            "such a memory would. What tells one text from another throughout counts as memory, too.",
        ),
        _section(
            "Depth",
            "Where in the depth?",
            figures.draw_depth(models),
            "DSD at each site, a pale dot a prompt, the mean with its 95 % interval. Each site has a dictionary of its "
            "own, fitted alike: read the scatter of dots within a site, and compare heights between sites with care.",
        ),
        _section(
            "Length",
            "Does it depend on length?",
            figures.draw_lengths(models),
            "DSD of the first tokens of the same texts (those long enough to reach the right end)." + both + " Read: "
            "where a line falls or rises, texts of different lengths cannot be compared by that estimator. 'paper' "
            "moves by its nature, as the noise in a spectrum shrinks with the number of tokens; 'robust' looks at "
            "windows of one length and should stay level.",
        ),
        _section(
            "Pseudospectrum",
            "How sharp is the spectrum?",
            figures.draw_pseudospectra(models),
            f"The smallest residual that any observable of the dictionary has at each point of the plane, at {last}; "
            "white dots are the eigenvalues, the white line is 0.5, dotted the unit circle. Read: dark wells around "
            "dots are sharp modes; a wide dark plain means that eigenvalues there could lie anywhere on it.",
        ),
        _section(
            "Trajectories",
            "What do the trajectories look like?",
            figures.draw_paths(models[0]),
            "The hidden states of the first texts, token by token, in the plane of the two leading principal "
            "components of each site; a colour a text, a pale dot a token, the line their moving mean over "
            f"{figures.PATH_WINDOW} tokens from the large dot on; one token in a hundred lies outside. Read: clouds "
            "with short lines are states ruled by the present token, long lines are drifts that outlast it.",
            "paths",
        ),
    ]
    return [part for part in parts if part]


def _mode_section(models: Sequence[LatentSpectra]) -> Html:
    """The place in which the scripts show the tokens of a mode; empty where the texts' tokens are unknown."""
    if not any(spectra.pieces and spectra.activities for spectra in models):
        return Html("")
    note = (
        "Choose a mode, or click an eigenvalue above. The stronger a token's shade, the larger the mode's "
        "eigenfunction is there; a strength of 1 is its root mean square over the first texts. Read: a mode that is "
        "strong at one kind of token, such as digits or line ends, follows these; one that is level says little of the "
        "text."
    )
    heading = element(
        "h2", "At which tokens is a mode active?", id="modes", data_name="Tokens of a mode", class_="screen"
    )
    return element("section", heading, element("p", note, class_="note screen"), part("modes"))


def _section(name: str, question: str, drawn: Figure | None, caption: str, place: str | None = None) -> Html:
    if drawn is None:
        return Html("")
    heading = element("h2", question, id=f"spectrum_{name.lower().replace('-', '')}", data_name=name)
    if place is None:
        return element(
            "section", heading, figure(svg_source(drawn), question, caption, is_wide=drawn.get_figwidth() > 7)
        )
    image = still(svg_source(drawn), question)
    live = element("figure", part(place), image, element("figcaption", caption))
    return element("section", heading, live)


def _texts(page: SpectrumPage) -> Html:
    parts = [element("h2", "By text", id="texts")]
    for spectra in page.models:
        if not spectra.sites:
            continue
        site = spectra.sites[-1].site
        estimators = spectra.settings.estimators
        names = ("prompt", "tokens", *(f"DSD {n}" for n in estimators), "max |λ|", "residual", "condition")
        head = element("tr", *(element("th", name) for name in (*names, "effective rank", "curvature")))
        rows = [
            element(
                "tr",
                element("td", page.name_of(row.id), title=row.id),
                *(element("td", _unbroken(cell)) for cell in text_cells(row, estimators)[1:]),
            )
            for row in spectra.at(site)[:_MOST_TEXTS]
        ]
        parts.append(
            element("p", f"{spectra.model} at {site}, the first {len(rows)} of {len(spectra.at(site))} texts.")
        )
        body = element("tbody", *rows)
        parts.append(wide_table(element("thead", head), body, class_="results sortable", label="Texts", is_tall=True))
    for spectra in page.models:
        name = "" if len(page.models) == 1 else f"{Path(spectra.model).name}-"
        parts.append(download(f"{name}trajectories.csv", *trajectory_rows(spectra)))
        parts.append(download(f"{name}eigenvalues.csv", EIGENVALUE_COLUMNS, eigenvalue_rows(spectra)))
    return element("section", *parts)


def text_cells(row, estimators: Sequence[str]) -> list[str]:
    """The cells of a text's row, as text: for the page and for the terminal."""

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    residual = row.residual_kind if row.residual_median is None else f"{row.residual_median:.2f} {row.residual_kind}"
    return [
        row.id,
        str(row.num_tokens),
        *(shown(row.dsd.get(name), ".3g") for name in estimators),
        shown(row.max_modulus, ".3f"),
        residual,
        shown(row.condition, ".1e"),
        shown(row.effective_rank, ".1f"),
        shown(row.curvature, ".2f"),
    ]


def _excerpts(page: SpectrumPage) -> Html:
    if not page.excerpts:
        return Html("")
    shown = [
        element("div", element("p", prompt, class_="text prompt"), element("p", text, class_="text"), class_="problem")
        for prompt, text in page.excerpts
    ]
    return element("section", element("details", element("summary", "The first texts, as the model read them"), *shown))


def _settings(page: SpectrumPage) -> Html:
    rows = []
    for spectra in page.models:
        for name, value in vars(spectra.settings).items():
            shown = ", ".join(value) if isinstance(value, tuple) else str(value)
            rows.append(element("tr", element("td", spectra.model), element("td", name), element("td", shown)))
        for site in spectra.sites:
            shown = f"{site.dictionary_digest[:16]}, residual {_fit(site.dictionary_report)}"
            rows.append(
                element(
                    "tr",
                    element("td", spectra.model),
                    element("td", f"dictionary of {site.site}"),
                    element("td", shown),
                )
            )
    summary = element("summary", "All settings and dictionaries")
    return element(
        "section",
        element("h2", "To repeat", id="repeat"),
        command_line(page.command),
        element("details", summary, wide("table", *rows)),
    )


def _fit(report: dict | None) -> str:
    if report is None:
        return "of the fit unknown"
    before, after = (report[f"relative_residual_{when}"] for when in ("before", "after"))
    return f"{before:.3f} before the fit, {after:.3f} after"
