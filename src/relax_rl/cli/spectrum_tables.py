"""The tables that ``relax spectrum`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relax_rl.reports.spectra.axis import axis_cells
from relax_rl.reports.spectra.jacobian import EXPONENT_HEAD, POINT_HEAD, exponent_cells, point_cells, verdicts
from relax_rl.reports.spectra.landscape import coherence_rows
from relax_rl.reports.spectra.page import summary_cells, text_cells
from relax_rl.reports.spectra.ranking import interval_text
from relax_rl.reports.spectra.segments import QUARTERS, probe_rows, quarter_means
from relax_rl.reports.spectra.sentences import KIND_COLUMNS, kind_rows, score_rows, threshold_words
from relax_rl.reports.spectra.tables import remarks, site_summaries
from relax_rl.spectra.axes import TOLERANCE, AxisSpectrum
from relax_rl.spectra.difference import SpectraDifference
from relax_rl.spectra.jacobian import JacobianSpectrum
from relax_rl.spectra.landscape import ModelLandscape
from relax_rl.spectra.measure import LatentSpectra
from relax_rl.spectra.probe import ProbeResult
from relax_rl.spectra.segments import QUANTITIES, SegmentedCompletion
from relax_rl.spectra.sentences import SentenceResult

__all__ = [
    "print_axes",
    "print_jacobian",
    "print_landscapes",
    "print_segments",
    "print_sentences",
    "print_tables",
]

_MOST_ROWS = 20
_WIDTH = 144


def print_tables(models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference]) -> None:
    """By site, by text at the deepest site, and the differences; then what a reader must be told."""
    console = _console()
    for spectra in models:
        _print_sites(console, spectra)
        if spectra.sites:
            _print_texts(console, spectra)
    if differences:
        _print_differences(console, models, differences)
    for spectra in models:
        for remark in remarks(spectra):
            console.print(f"note: {spectra.model}: {remark}", markup=False, highlight=False)


def print_axes(model: str, axes: Sequence[AxisSpectrum]) -> None:
    """Over layers or cycles: the leading modes of each block, and how its states settle."""
    console = _console()
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{model}: change of a token's state from step to step",
        caption="|λ|: moduli of the operator that takes one change to the next; change: |h' - h| / |h'|, mean over "
        "tokens, and contraction: ratio of one change to the one before, median, at the first and the last step; "
        f"settled: tokens whose change fell below {100 * TOLERANCE:g} %",
    )
    for name in ("block", "tokens", "steps", "largest |λ|", "residual", "change", "contraction", "settled"):
        table.add_column(name, no_wrap=name == "block", overflow="fold")
    for axis in axes:
        table.add_row(*axis_cells(axis))
    console.print(table)


def print_jacobian(found: JacobianSpectrum) -> None:
    """Exponents beside the fits of the same states, with what the first says of each; then single Jacobians."""
    console = _console()
    title = (
        f"{found.model}: growth of a small change of the final state ({found.num_texts} texts, {found.num_tokens} "
        "tokens)"
    )
    caption = (
        "exponent: mean log growth a token, without a fit; below 0 a change is forgotten; log |λ|: operators fitted on "
        "the same states"
    )
    console.print(_table(title, EXPONENT_HEAD, exponent_cells(found), caption))
    for words in verdicts(found):
        console.print(words, markup=False, highlight=False)
    if found.points:
        console.print(_table("single Jacobians", POINT_HEAD, point_cells(found)[:_MOST_ROWS], is_folded=True))


def print_landscapes(landscapes: Sequence[ModelLandscape]) -> None:
    """By distance: whether the models are apart, and how coherent each is."""
    caption = (
        "silhouette: 1 apart, 0 mixed; p: by shuffling models within prompts; coherence: mean distance within the "
        "model over that to the others [95 % interval], below 1 where it has dynamics of its own"
    )
    names = ("distance", "silhouette", "p", "of clusters", "model", "coherence")
    _console().print(_table("are the models apart?", names, coherence_rows(landscapes), caption))


def print_sentences(model: str, result: SentenceResult) -> None:
    """Whether the score distinguishes hallucinated texts, beside length alone; and the dynamics of each kind."""
    console = _console()
    tested = "/".join(str(count) for count in result.num_texts["test"])
    title = f"{model}: are hallucinated texts distinguished? ({tested} faithful/hallucinated test texts)"
    caption = (
        "AUC: chance that a hallucinated text is ranked above a faithful one; 0.5 tells nothing, below it the order is "
        "reversed"
    )
    console.print(_table(title, ("score", "AUC [95 % interval]"), score_rows(result), caption))
    title = f"from sentence to sentence, on {result.rank} directions"
    console.print(_table(title, KIND_COLUMNS, kind_rows(result), is_folded=True))
    console.print(threshold_words(result), markup=False, highlight=False)


def print_segments(completions: Sequence[SegmentedCompletion], probe: ProbeResult) -> None:
    """Whether the probe distinguishes right completions out of problem; then how both kinds go, a quantity a row."""
    console = _console()
    title = (
        f"are right completions distinguished? ({probe.num_right} right, {probe.num_wrong} wrong, {probe.num_problems} "
        f"problems in {probe.num_folds} parts)"
    )
    caption = (
        "linear probes tested on problems that they did not see; AUC: chance that a right completion is ranked above a "
        "wrong one, within problems: of the same problem"
    )
    names = ("features", "AUC [95 % interval]", "within problems")
    console.print(_table(title, names, probe_rows(probe), caption))
    console.print(
        f"dynamics add {interval_text(probe.gain, '+.3f')} to the AUC of length and entropy",
        markup=False,
        highlight=False,
    )
    means = []
    for quantity in (*QUANTITIES, "entropy"):
        kinds = [quarter_means(completions, quantity, is_right) for is_right in (True, False)]
        cells = [" / ".join("–" if e is None else f"{e.value:.3f}" for e in pair) for pair in zip(*kinds, strict=True)]
        means.append([quantity.replace("_", " "), *cells])
    title = "segments that begin in each quarter, right / wrong"
    caption = "means over problems; intervals are on the page and in the CSV file"
    console.print(_table(title, ("of a segment", *QUARTERS), means, caption))


def _table(
    title: str, names: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", *, is_folded: bool = False
) -> Table:
    """Cells under their names; lines break only where `is_folded`."""
    table = Table(box=SIMPLE_HEAD, title=title, caption=caption or None)
    for name in names:
        table.add_column(name, no_wrap=not is_folded)
    for row in rows:
        table.add_row(*row)
    return table


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)  # in a file nothing needs folding
    return console


def _print_sites(console: Console, spectra: LatentSpectra) -> None:
    estimators = spectra.settings.estimators
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{spectra.model}: by site",
        caption="DSD: mean over prompts [95 % interval]; max |λ|, residual and condition: medians over texts; N / F: "
        "pairs and observables of all texts",
    )
    names = ("site", *(f"DSD {name}" for name in estimators), "defined", "max |λ|", "residual", "condition", "N / F")
    for name in (*names, "dictionary"):
        table.add_column(name, no_wrap=name == "site", overflow="fold")
    for summary in site_summaries(spectra):
        table.add_row(*summary_cells(summary, estimators))
    console.print(table)


def _print_texts(console: Console, spectra: LatentSpectra) -> None:
    site, estimators = spectra.sites[-1].site, spectra.settings.estimators
    rows = spectra.at(site)
    more = f"; {len(rows) - _MOST_ROWS} more in trajectories.csv" if len(rows) > _MOST_ROWS else ""
    table = Table(box=SIMPLE_HEAD, title=f"{spectra.model}: by text at {site}", caption=f"{len(rows)} texts{more}")
    names = ("prompt", "tokens", *(f"DSD {name}" for name in estimators), "max |λ|", "residual", "condition")
    for name in (*names, "eff. rank", "curvature"):
        table.add_column(name)
    for row in rows[:_MOST_ROWS]:
        table.add_row(*text_cells(row, estimators))
    console.print(table)


def _print_differences(
    console: Console, models: Sequence[LatentSpectra], differences: Sequence[SpectraDifference]
) -> None:
    first, second = models
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{second.model} minus {first.model}",
        caption="paired by prompt, sign-flip test; * under two dictionaries, so not of the models alone",
    )
    for name in ("site", "quantity", "first", "second", "difference", "95 % interval", "p", "n"):
        table.add_column(name)
    for d in differences:
        interval = "too few prompts" if math.isinf(d.test.low) else f"{d.test.low:+.3g} to {d.test.high:+.3g}"
        mark = "" if d.is_of_models else " *"
        numbers = (f"{d.first:.4g}", f"{d.second:.4g}", f"{d.test.value:+.3g}", interval, f"{d.test.p_value:.3g}")
        table.add_row(d.site, d.quantity + mark, *numbers, str(d.test.num_pairs))
    console.print(table)
