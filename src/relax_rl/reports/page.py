"""The report: one HTML file that needs nothing else, no network, and opens from a mail attachment.

Its scripts draw what can be asked; without scripts, and on paper, figures stand in their place.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_rl.comparison.methods import Comparison, compare_methods, unlike_evaluation
from relax_rl.comparison.pairs import metric_names
from relax_rl.comparison.records import RunRecord, by_method, read_runs
from relax_rl.comparison.tables import METHOD_COLUMNS, method_rows
from relax_rl.reports.canvas import svg_source
from relax_rl.reports.completions import evaluation_samples, rollout_samples
from relax_rl.reports.cost import cost_section
from relax_rl.reports.curves import PANELS, draw_curves, smoothing_window
from relax_rl.reports.document import document, download, footer, listed, part, still, unique, write_document
from relax_rl.reports.dynamics import spectra_section, trajectory_section
from relax_rl.reports.entropy import ENTROPY_COLUMNS, draw_entropy, entropy_rows
from relax_rl.reports.files import curve_rows, write_figures
from relax_rl.reports.header import contents, page_header, settings_section, values_of
from relax_rl.reports.interactive.completions import completion_data
from relax_rl.reports.interactive.curves import curve_data
from relax_rl.reports.interactive.evaluations import during_panels, pass_panels
from relax_rl.reports.interactive.modes import run_modes
from relax_rl.reports.interactive.planes import law_planes, spectrum_planes
from relax_rl.reports.interactive.trajectories import trajectory_planes
from relax_rl.reports.laws import entropy_laws
from relax_rl.reports.markup import Html, element, join
from relax_rl.reports.passes import DIFFERENCE_COLUMNS, difference_rows, draw_differences, draw_pass_curves, pass_rows
from relax_rl.reports.problems import coverage
from relax_rl.reports.tables import ResultRow, comparison_notes, comparison_table, result_rows, results_table

__all__ = ["page_of", "write_report"]


def write_report(
    run_dirs: Sequence[Path],
    output: Path,
    *,
    methods: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    figures: Path | None = None,
) -> Path:
    """Write one self-contained page about runs, compared with the first of them.

    Where a method was trained with several seeds, the page is about methods: curves have bands, the table is that of
    `compare_methods`, spectra and completions are those of each method's first run. The data behind the table and the
    figures are in the page as CSV files to save.

    Args:
        run_dirs: run directories, in the order of the legends.
        output: the HTML file; its folder is made, an existing file is replaced.
        methods: name of each run's method; read off the settings when None.
        baseline: the method that others are compared with; the first when None.
        metrics: metrics whose differences are tested; as for `compare_methods`.
        figures: a folder for the figures as SVG and PNG, with their data as CSV; None: no such files.

    Returns:
        ``output``.

    Raises:
        RunError: no such run, or a file that cannot be written.
        DataError: settings that are not JSON.
    """
    runs = read_runs(run_dirs, methods, despite_damage=True)
    page = page_of(runs, output, baseline=baseline, metrics=metrics)
    if figures is not None:
        write_figures(runs, figures)
    return write_document(page, output)


def page_of(
    runs: Sequence[RunRecord],
    output: Path,
    *,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    version: str | None = None,
) -> str:
    """The page of some runs as HTML.

    Args:
        output: path of the page, for the commands that it shows.
        version: version of the runs' files, for a page that a server keeps fresh; None: a page that stands alone.
    """
    has_seeds = len(by_method(runs)) < len(runs)
    # What cannot be shown for all runs is shown for the first of each method.
    shown = [replace(members[0], label=method) for method, members in by_method(runs).items()] if has_seeds else runs
    title = f"{listed([run.label for run in shown])} on {values_of(runs, 'task.name')}"
    can_be_compared = has_seeds and unlike_evaluation(runs) is None
    results = _compared(runs, baseline, metrics) if can_be_compared else _results(runs)
    header = page_header(runs, title, is_live=version is not None)
    sections = [header, settings_section(shown), cost_section(runs), results, _pass_curves(shown), _curves(runs)]
    sections += [_laws(runs), coverage(shown), spectra_section(shown), trajectory_section(shown), _completions(shown)]
    sections += [_commands(runs, output), footer()]
    sections = [section for section in sections if section]
    return document(title, [contents(sections), *sections], _data(runs, shown, version), is_served=version is not None)


def _data(runs: Sequence[RunRecord], shown: Sequence[RunRecord], version: str | None) -> dict[str, Any]:
    """The data of the scripts."""
    panels = {"pass": pass_panels(shown), "during": during_panels(runs)}
    planes = {"spectra": spectrum_planes(shown), "trajectories": trajectory_planes(shown), "laws": law_planes(runs)}
    return {
        "version": version,
        "curves": curve_data(runs),
        "panels": {name: found for name, found in panels.items() if found},
        "planes": {name: found for name, found in planes.items() if found is not None},
        "modes": run_modes(shown),
        "completions": completion_data(shown),
    }


def _results(runs: Sequence[RunRecord]) -> Html:
    rows, names = result_rows(runs), metric_names(runs)
    heading = element("h2", "Results", id="results")
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
        results_table(rows, names),
        element("p", note, class_="note"),
        *_notes(comparison_notes(runs)),
        download("results.csv", ["run", "row", "metric", "value", "low", "high", "problems"], _result_data(rows)),
    )


def _compared(runs: Sequence[RunRecord], baseline: str | None, metrics: Sequence[str] | None) -> Html:
    """Methods over seeds: a table, a sentence for each, and the data."""
    heading = element("h2", "Results", id="results")
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
        comparison_table(comparison),
        *_bars(comparison),
        element("ul", *sentences),
        *_notes(comparison.remarks),
        element("p", note, class_="note"),
        download("methods.csv", METHOD_COLUMNS, method_rows(comparison)),
    )


def _bars(comparison: Comparison) -> list[Html]:
    """The differences to the baseline as bars, a figure a metric side by side; none where nothing is compared."""
    found = []
    for metric in comparison.metrics:
        differences = {m.method: m.differences[metric].mean for m in comparison.methods if metric in m.differences}
        if differences:
            name = f"{metric} − {comparison.baseline}"
            drawn = draw_differences(differences, name)
            found.append(element("figure", element("img", src=svg_source(drawn), alt=f"Differences in {name}.")))
    if not found:
        return []
    said = "A bar a method, the line its 95 % interval over seeds and problems; pale: the interval has zero."
    return [element("div", *found, class_="figures"), element("p", said, class_="note")]


def _notes(notes: Sequence[str]) -> list[Html]:
    return [element("p", f"Note: {note}.", class_="note") for note in unique(notes)]


def _curves(runs: Sequence[RunRecord]) -> Html:
    heading = element("h2", "Training", id="training")
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
    data = download("curves.csv", ["run", "metric", "step", "value"], curve_rows(runs))
    image = still(svg_source(draw_curves(runs)), alt)
    still_figure = element("figure", image, element("figcaption", caption), class_="static")
    between = element("h3", "Evaluations during training", class_="screen")
    during = [between, part("during")] if any(run.during for run in runs) else []
    return element("section", heading, part("curves"), still_figure, *during, data)


def _laws(runs: Sequence[RunRecord]) -> Html:
    """Reward against entropy: the table of laws, and the three pictures behind it."""
    drawn = draw_entropy(runs)
    if drawn is None:
        return entropy_laws(runs, part("laws"))
    alt = f"Reward against entropy, its forecast and the covariance, for {', '.join(_names(runs))}."
    data = download("entropy.csv", ENTROPY_COLUMNS, entropy_rows(runs))
    return entropy_laws(runs, element("figure", part("laws"), still(svg_source(drawn), alt)), data)


def _pass_curves(runs: Sequence[RunRecord]) -> Html:
    """pass@k over k with intervals; empty where no evaluation has it."""
    drawn = draw_pass_curves(runs)
    if drawn is None:
        return Html("")
    note = (
        "Share of the problems of which at least one of k samples is right, unbiased, with 95 % intervals by bootstrap "
        "over problems. Two curves whose intervals overlap may still differ: the paired differences beside them tell."
    )
    data = download("pass_at_k.csv", ["run", "evaluation", "k", "value", "low", "high"], pass_rows(runs))
    alt = f"pass@k against k with intervals, for {', '.join(run.label for run in runs)}."
    figure_ = element("figure", part("pass"), still(svg_source(drawn), alt), element("figcaption", note))
    differences = download("pass_differences.csv", DIFFERENCE_COLUMNS, difference_rows(runs))
    return element("section", element("h2", "pass@k", id="pass"), figure_, data, differences)


def _completions(runs: Sequence[RunRecord]) -> Html:
    evaluated, rolled = evaluation_samples(runs), join([rollout_samples(run) for run in runs])
    parts = [element("h2", "Completions", id="completions")]
    if not evaluated and not rolled:
        return element("section", *parts, element("p", "No completion has been kept.", class_="lead"))
    lead = (
        "Choose two completions with A and B: what only one of them has is marked. Text of models is shown as it is; "
        "the run directories have all of it."
    )
    first = element("p", "One sample of each policy for the first problems of the evaluation, not chosen.")
    training = [element("h3", "Completions that training saw"), rolled] if rolled else []
    stills = element("div", *([first, evaluated] if evaluated else []), *training, class_="static")
    return element("section", *parts, element("p", lead, class_="note screen"), part("completions"), stills)


def _commands(runs: Sequence[RunRecord], output: Path) -> Html:
    paths = [shlex.quote(str(run.path)) for run in runs]
    again = [
        f"relax train {shlex.quote(str(run.path / 'config.json'))} --output {path}-again"
        for run, path in zip(runs, paths, strict=True)
    ]
    lines = [*again, f"relax report {' '.join(paths)} --output {shlex.quote(str(output))}"]
    return element("section", element("h2", "To repeat", id="repeat"), element("pre", "\n".join(lines)))


def _result_data(rows: Sequence[ResultRow]) -> list[tuple]:
    return [
        (row.run, row.what, name, e.value, e.low, e.high, e.num_problems)
        for row in rows
        for name, e in row.cells.items()
    ]


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """The names in the legends."""
    return [members[0].label if len(members) == 1 else method for method, members in by_method(runs).items()]
