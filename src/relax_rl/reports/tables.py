"""The results of the runs compared: before, after, and paired differences, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relax_rl.comparison.pairs import comparability, evaluated_stages, metric_names, paired_difference
from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.bounds import Bounds, metric_bounds, unscored_note
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.reports.document import wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.statistics.intervals import Estimate

if TYPE_CHECKING:
    from relax_rl.comparison.methods import Comparison
    from relax_rl.statistics.seeded_means import SeededMean

__all__ = ["ResultRow", "comparison_notes", "comparison_table", "result_rows", "results_table"]


@dataclass(frozen=True)
class ResultRow:
    """One line of the table.

    Attributes:
        run: label of the run.
        what: ``before``, ``after``, ``after − before``, or ``after − <first run>``.
        is_difference: whether the cells are differences, in which zero means something.
        cells: estimates by metric; a metric that was not measured is absent.
        bounds: by metric, where completions have no score.
    """

    run: str
    what: str
    is_difference: bool
    cells: dict[str, Estimate]
    bounds: dict[str, Bounds] = field(default_factory=dict)


def result_rows(runs: Sequence[RunRecord], names: Sequence[str] | None = None) -> list[ResultRow]:
    """Rows of the table, run by run; differences only between evaluations of the same problems and settings.

    Args:
        names: metrics; those of `metric_names` when None.
    """
    names = metric_names(runs) if names is None else names
    rows = []
    for run in runs:
        stages = evaluated_stages(run)
        for stage, result in stages.items():
            cells = {name: result.metrics[name] for name in names if name in result.metrics}
            bounds = {name: found for name in names if (found := metric_bounds(result, name)) is not None}
            rows.append(ResultRow(run.label, stage, False, cells, bounds))
        for pair in _pairs(run, runs[0]):
            rows.append(ResultRow(run.label, pair.what, True, _differences(pair.first, pair.second, names)))
    return [row for row in rows if row.cells or row.bounds]


def comparison_notes(runs: Sequence[RunRecord]) -> list[str]:
    """For each difference that the rows do not show, what differs; and what of the others is unknown."""
    results = [(run.label, stage, result) for run in runs for stage, result in evaluated_stages(run).items()]
    noted = [(label, stage, unscored_note(result)) for label, stage, result in results]
    notes = [f"{label}, {stage}: {note}" for label, stage, note in noted if note is not None]
    for pair in (pair for run in runs for pair in _pairs(run, runs[0])):
        found, of = comparability(pair.first, pair.second), f"{pair.what} of {pair.label}"
        if not found.is_comparable:
            notes.append(f"{of} is not computed: {found.reasons(*pair.places)}")
            continue
        if found.dispersion and "dsd" in pair.first.metrics and "dsd" in pair.second.metrics:
            unlike = ", ".join(mismatch.words(*pair.places) for mismatch in found.dispersion)
            notes.append(f"{of} has no DSD: {unlike}")
        notes += [f"{of}: {note}" for note in found.notes(*pair.places)]
    return notes


@dataclass(frozen=True)
class _Pair:
    """Two evaluations whose difference is a row, and how a sentence names them."""

    label: str
    what: str
    first: EvaluationResult
    second: EvaluationResult
    places: tuple[str, str]


def _pairs(run: RunRecord, reference: RunRecord) -> Iterator[_Pair]:
    """Before and after training; and after training, this run and the first."""
    stages, others = evaluated_stages(run), evaluated_stages(reference)
    if {"before", "after"} <= stages.keys():
        yield _Pair(run.label, "after − before", stages["before"], stages["after"], ("before", "after"))
    if run is not reference and "after" in others and "after" in stages:
        places = (f"for {reference.label}", f"for {run.label}")
        yield _Pair(run.label, f"after − {reference.label}", others["after"], stages["after"], places)


def comparison_table(comparison: Comparison) -> Html:
    """Methods over seeds: values, then differences to the baseline with their p-values; significant ones are bold."""
    names = list(dict.fromkeys(name for row in comparison.methods for name in row.values))
    heads = [element("th", heading) for heading in ("method", "seeds", *map(_heading, names))]
    for name in comparison.metrics:
        heads += [element("th", f"{_heading(name)} − {comparison.baseline}"), element("th", "p")]
    body = []
    for row in comparison.methods:
        cells = [
            element("td", _cell(row.values.get(name), name, False), *_ends(row.bounds.get(name), name), class_="number")
            for name in names
        ]
        for name in comparison.metrics:
            found = row.differences.get(name)
            shown = _cell(found and found.mean, name, True, is_bold=bool(found and found.is_seen))
            p_value = element("td", found.shown_p if found else "–", class_="number")
            cells += [element("td", shown, class_="number"), p_value]
        seeds = element("td", str(len(row.seeds)), class_="number")
        body.append(element("tr", element("td", row.method, class_="run"), seeds, *cells, class_="first"))
    head = element("thead", element("tr", *heads))
    return wide_table(head, element("tbody", *body), class_="results", label="Results of the methods")


def results_table(rows: Sequence[ResultRow], names: Sequence[str], label: str = "Results of the runs") -> Html:
    """The rows as an HTML table; a difference whose interval excludes zero is bold."""
    head = element("tr", element("th", "run"), element("th", ""), *(element("th", _heading(name)) for name in names))
    body = []
    for position, row in enumerate(rows):
        is_first = position == 0 or rows[position - 1].run != row.run
        cells = [
            element(
                "td",
                _cell(row.cells.get(name), name, row.is_difference),
                *_ends(row.bounds.get(name), name),
                class_="number",
            )
            for name in names
        ]
        classes = " ".join(["first"] * is_first + ["difference"] * row.is_difference)
        label = element("td", row.run if is_first else "", class_="run")
        body.append(element("tr", label, element("td", row.what, class_="what"), *cells, class_=classes))
    return wide_table(element("thead", head), element("tbody", *body), class_="results", label=label)


def _differences(first: EvaluationResult, second: EvaluationResult, names: Sequence[str]) -> dict[str, Estimate]:
    found = {name: paired_difference(first, second, name) for name in names}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _heading(name: str) -> str:
    return {"dsd": "DSD", "not_scored": "not scored", "length": "length (tokens)", "entropy": "entropy (nats)"}.get(
        name, name
    )


def _cell(
    estimate: Estimate | SeededMean | None, name: str, is_difference: bool, *, is_bold: bool | None = None
) -> Html:
    """A value and its interval; bold, unless said otherwise, where a difference's interval excludes zero."""
    if estimate is None:
        return element("span", "–", class_="missing")
    value, low, high = (_number(x, name, is_difference) for x in (estimate.value, estimate.low, estimate.high))
    if is_bold is None:
        is_bold = is_difference and (estimate.low > 0 or estimate.high < 0)
    return element(
        "span",
        element("b" if is_bold else "span", value),
        element("span", f"[{low}, {high}]", class_="interval"),
    )


def _ends(bounds: Bounds | None, name: str) -> list[Html]:
    """Worst and best case, where completions have no score."""
    if bounds is None:
        return []
    worst, best = (_number(value, name, False) for value in (bounds.worst, bounds.best))
    return [element("span", f"worst {worst}, best {best}", class_="interval")]


def _number(value: float, name: str, is_difference: bool) -> str:
    """Shares to three places, tokens to one, the rest to three digits; a minus sign that is as wide as a plus."""
    if name == "length":
        text = f"{value:.1f}"
    elif name == "dsd":
        text = f"{value:.3g}"
    else:
        text = f"{value:.3f}"
    sign = "+" if is_difference and value > 0 else ""
    return sign + text.replace("-", "−")
