"""The report: one HTML file that needs nothing else, neither network nor scripts, and opens from a mail attachment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_rl.comparison.methods import compare_methods, unlike_evaluation
from relax_rl.comparison.pairs import metric_names
from relax_rl.comparison.records import PLACES, RunRecord, by_method, flatten, read_runs
from relax_rl.comparison.tables import METHOD_COLUMNS, method_rows
from relax_rl.reports.canvas import svg_source
from relax_rl.reports.completions import evaluation_samples, rollout_samples
from relax_rl.reports.curves import PANELS, curve_of, draw_curves, smoothing_window
from relax_rl.reports.document import document, download, figure, footer, listed, unique, wide, write_document
from relax_rl.reports.laws import entropy_laws
from relax_rl.reports.markup import Html, element, join
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL, draw_spectra
from relax_rl.reports.tables import ResultRow, comparison_notes, comparison_table, result_rows, results_table
from relax_rl.runs.starts import start_in_words

__all__ = ["write_report"]


def write_report(
    run_dirs: Sequence[Path],
    output: Path,
    *,
    methods: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
) -> Path:
    """Write one self-contained page about runs, compared with the first of them.

    Where a method was trained with several seeds, the page is about methods: curves have bands, the table is that of
    `compare_methods`, spectra and completions are those of each method's first run. The data behind the table and the
    figures are in the page as CSV files to save.

    Args:
        run_dirs: run directories, in the order of the legends.
        output: the HTML file; its folder is made, an existing file is replaced.
        methods: what each run's method is called; read off the settings when None.
        baseline: the method that others are compared with; the first when None.
        metrics: whose differences are tested; as for `compare_methods`.

    Returns:
        ``output``.

    Raises:
        RunError: no such run, a broken one, or a file that cannot be written.
        DataError: an evaluation that cannot be read.
    """
    return write_document(_page(read_runs(run_dirs, methods), output, baseline, metrics), output)


def _page(runs: Sequence[RunRecord], output: Path, baseline: str | None, metrics: Sequence[str] | None) -> str:
    has_seeds = len(by_method(runs)) < len(runs)
    # What cannot be shown for all runs is shown for the first of each method.
    shown = [replace(members[0], label=method) for method, members in by_method(runs).items()] if has_seeds else runs
    title = f"{listed([run.label for run in shown])} on {_values(runs, 'task.name')}"
    can_be_compared = has_seeds and unlike_evaluation(runs) is None
    results = _compared(runs, baseline, metrics) if can_be_compared else _results(runs)
    sections = [_header(runs, title), _settings(shown), results, _curves(runs), entropy_laws(runs), _spectra(shown)]
    sections += [_completions(shown), _commands(runs, output), footer()]
    return document(title, sections)


def _header(runs: Sequence[RunRecord], title: str) -> Html:
    steps = unique(str(int(run.metrics[-1]["step"])) for run in runs if run.metrics)
    length = f"{listed(steps)} steps" if steps else "no step logged yet"
    seeds = {run.seed for run in runs}
    of = f", {len(seeds)} seeds" if len(by_method(runs)) < len(runs) else ""
    lead = f"{len(runs)} run{'s' * (len(runs) > 1)} of the policy {_values(runs, 'model')}{of}, {length}."
    ran = [f"{run.label}, {start_in_words(start)}" for run in runs for start in run.starts]
    parts = [element("h1", title), element("p", lead, class_="lead")]
    if ran:
        lines = [element("li", line) for line in ran]
        parts.append(element("details", element("summary", "What the training ran on"), element("ul", *lines)))
    return element("header", *parts)


def _settings(runs: Sequence[RunRecord]) -> Html:
    flat = [flatten(run.config) for run in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    different = [key for key in keys if key not in PLACES and len({_show(settings.get(key)) for settings in flat}) > 1]
    shared = [key for key in keys if key not in PLACES and key not in different]
    parts = [element("h2", "What was compared")]
    if different:
        head = element("tr", element("th", "setting"), *(element("th", run.label) for run in runs))
        rows = [
            element("tr", element("td", element("code", key)), *(element("td", _show(s.get(key))) for s in flat))
            for key in different
        ]
        parts += [element("p", "The runs differ in these settings and in no other."), wide("table", head, *rows)]
    rows = [
        element("tr", element("td", element("code", key)), element("td", _show(flat[0].get(key)))) for key in shared
    ]
    summary = element("summary", f"{len(shared)} settings that all runs share" if len(runs) > 1 else "All settings")
    parts.append(element("details", summary, wide("table", *rows)))
    return element("section", *parts)


def _results(runs: Sequence[RunRecord]) -> Html:
    rows, names = result_rows(runs), metric_names(runs)
    heading = element("h2", "Results")
    if not rows:
        return element("section", heading, element("p", "No run has been evaluated.", class_="lead"))
    evaluations = [run.evaluations[stage] for run in runs for stage in ("before", "after") if stage in run.evaluations]
    settings = unique(
        f"{e.task}/{e.split}, {e.num_problems} problems × {e.num_samples} samples of at most {e.max_completion_length} "
        f"tokens, temperature {e.temperature:g}, top-p {e.top_p:g}"
        for e in evaluations
    )
    measured = unique(e.dsd_estimator for e in evaluations if e.dsd_estimator)
    estimators = f" Its estimator: {listed(measured)}." if measured else ""
    note = (
        f"{'; '.join(settings)}. Brackets are 95 % intervals by bootstrap over problems. Differences are paired by "
        "problem; bold: the interval excludes zero. mean@1 is the mean over problems and all their samples, pass@k the "
        "unbiased estimate. DSD is compared only under one dictionary."
        f"{estimators}"
    )
    return element(
        "section",
        heading,
        element("div", results_table(rows, names), class_="wide"),
        element("p", note, class_="note"),
        *_notes(comparison_notes(runs)),
        download("results.csv", ["run", "row", "metric", "value", "low", "high", "problems"], _result_data(rows)),
    )


def _compared(runs: Sequence[RunRecord], baseline: str | None, metrics: Sequence[str] | None) -> Html:
    """Methods over seeds: a table, a sentence for each, and the data."""
    heading = element("h2", "Results")
    if not any("after" in run.evaluations for run in runs):
        return element("section", heading, element("p", "No run has been evaluated.", class_="lead"))
    comparison = compare_methods(runs, baseline, metrics)
    note = (
        "Means over seeds and problems after training; brackets are 95 % intervals over both. Differences are to "
        f"{comparison.baseline}, paired by seed and by problem, their p-values corrected by Holm for the number of "
        "methods, for each metric by itself; bold: below 0.05."
    )
    sentences = [element("li", summary.sentence) for summary in comparison.methods]
    return element(
        "section",
        heading,
        element("div", comparison_table(comparison), class_="wide"),
        element("ul", *sentences),
        *_notes(comparison.remarks),
        element("p", note, class_="note"),
        download("methods.csv", METHOD_COLUMNS, method_rows(comparison)),
    )


def _notes(notes: Sequence[str]) -> list[Html]:
    return [element("p", f"Note: {note}.", class_="note") for note in unique(notes)]


def _curves(runs: Sequence[RunRecord]) -> Html:
    heading = element("h2", "Training")
    if not any(run.metrics for run in runs):
        return element("section", heading, element("p", "No step has been logged.", class_="lead"))
    titles = ", ".join(panel.title.lower() for panel in PANELS)
    longest = max(len(run.metrics) for run in runs)
    caption = (
        f"Pale lines as logged, full lines smoothed (centred moving mean of {smoothing_window(longest)} points, a "
        "straight line at the ends; of logarithms on the log axis). A method that does not measure a quantity "
        "has no line."
    )
    if len(by_method(runs)) < len(runs):
        caption += " Over seeds: the mean, in a band from the lowest to the highest smoothed curve."
    alt = f"Five panels against the training step: {titles}, for {', '.join(_names(runs))}."
    rows = [
        (run.label, panel.title, int(step), value)
        for run in runs
        for panel in PANELS
        for step, value in zip(*curve_of(run, panel), strict=True)
    ]
    data = download("curves.csv", ["run", "metric", "step", "value"], rows)
    return element("section", heading, figure(svg_source(draw_curves(runs)), alt, caption), data)


def _spectra(runs: Sequence[RunRecord]) -> Html:
    heading = element("h2", "Koopman spectra of the latent dynamics")
    drawn = draw_spectra(runs)
    if drawn is None:
        return element("section", heading, element("p", "No evaluation measured a spectrum.", class_="lead"))
    caption = (
        "Discrete eigenvalues (one step is one token) of the operator matrix pooled over all completions of the "
        "evaluation, with the unit circle. Colour is the relative ResDMD residual, dark is small; hollow "
        f"grey marks a spurious pair, with a residual of {SPURIOUS_RESIDUAL:g} or more."
    )
    alt = f"Eigenvalues in the complex plane with the unit circle, for {', '.join(run.label for run in runs)}."
    rows = [
        (run.label, stage, real, imaginary, residual, evaluation.spectrum.dictionary_digest)
        for run in runs
        for stage, evaluation in run.evaluations.items()
        if evaluation.spectrum
        for (real, imaginary), residual in zip(
            evaluation.spectrum.eigenvalues, evaluation.spectrum.residuals, strict=True
        )
    ]
    data = download("spectra.csv", ["run", "evaluation", "real", "imaginary", "residual", "dictionary"], rows)
    return element("section", heading, figure(svg_source(drawn), alt, caption), data)


def _completions(runs: Sequence[RunRecord]) -> Html:
    evaluated, rolled = evaluation_samples(runs), join([rollout_samples(run) for run in runs])
    parts = [element("h2", "Completions")]
    if evaluated:
        parts += [
            element("p", "One sample of each policy for the first problems of the evaluation, not chosen."),
            evaluated,
        ]
    if rolled:
        parts.append(element("details", element("summary", "Completions that training saw"), rolled))
    if not evaluated and not rolled:
        parts.append(element("p", "No completion has been kept.", class_="lead"))
    return element("section", *parts)


def _commands(runs: Sequence[RunRecord], output: Path) -> Html:
    paths = [shlex.quote(str(run.path)) for run in runs]
    again = [
        f"relax train {shlex.quote(str(run.path / 'config.json'))} --output {path}-again"
        for run, path in zip(runs, paths, strict=True)
    ]
    lines = [*again, f"relax report {' '.join(paths)} --output {shlex.quote(str(output))}"]
    return element("section", element("h2", "To repeat"), element("pre", "\n".join(lines)))


def _result_data(rows: Sequence[ResultRow]) -> list[tuple]:
    return [
        (row.run, row.what, name, e.value, e.low, e.high, e.num_problems)
        for row in rows
        for name, e in row.cells.items()
    ]


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """What the legends say."""
    return [members[0].label if len(members) == 1 else method for method, members in by_method(runs).items()]


def _values(runs: Sequence[RunRecord], key: str) -> str:
    """The values of a setting over the runs, each once."""
    return listed(unique(_show(flatten(run.config).get(key, "unknown")) for run in runs))


def _show(value: Any) -> str:
    return "–" if value is None else str(value)
