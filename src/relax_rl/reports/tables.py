"""The results of the runs compared: before, after, and paired differences, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.reports.markup import Html, element
from relax_rl.statistics.intervals import Estimate, bootstrap_difference

if TYPE_CHECKING:
    from relax_rl.comparison.methods import Comparison
    from relax_rl.statistics.seeded_means import SeededMean

__all__ = [
    "ResultRow",
    "comparison_table",
    "metric_names",
    "paired_difference",
    "per_problem_value",
    "result_rows",
    "results_table",
    "same_settings",
]

_SETTINGS = ("task", "split", "num_samples", "temperature", "top_p", "max_new_tokens")

_FIELDS = {"mean@1": "mean_score", "entropy": "entropy", "dsd": "dsd", "length": "length", "truncated": "truncated"}
"""Where a metric is kept problem by problem."""


@dataclass(frozen=True)
class ResultRow:
    """One line of the table.

    Attributes:
        run: label of the run.
        what: ``before``, ``after``, ``after − before``, or ``after − <first run>``.
        is_difference: whether the cells are differences, in which zero means something.
        cells: estimates by metric; a metric that was not measured is absent.
    """

    run: str
    what: str
    is_difference: bool
    cells: dict[str, Estimate]


def metric_names(runs: Sequence[RunRecord]) -> list[str]:
    """Columns: mean@1, the largest pass@k that every evaluation has, entropy, DSD, length, truncated; as measured."""
    results = [result for run in runs for result in _stages(run).values()]
    if not results:
        return []
    shared = set.intersection(*(set(result.metrics) for result in results))
    passes = sorted((int(name[5:]) for name in shared if name.startswith("pass@")), reverse=True)
    wanted = ["mean@1", *(f"pass@{k}" for k in passes[:1]), "entropy", "dsd", "length", "truncated"]
    seen = {name for result in results for name in result.metrics}
    # A share that is zero throughout says nothing; samples that were not scored say a lot.
    unscored = any(e.value > 0 for result in results if (e := result.metrics.get("not_scored")))
    return [name for name in wanted if name in seen] + (["not_scored"] if unscored else [])


def result_rows(runs: Sequence[RunRecord]) -> list[ResultRow]:
    """Rows of the table, run by run; differences only between evaluations of the same problems and settings."""
    names = metric_names(runs)
    rows = []
    for run in runs:
        stages = _stages(run)
        for stage, result in stages.items():
            rows.append(
                ResultRow(run.label, stage, False, {n: result.metrics[n] for n in names if n in result.metrics})
            )
        if {"before", "after"} <= stages.keys():
            cells = _differences(stages["before"], stages["after"], names)
            rows.append(ResultRow(run.label, "after − before", True, cells))
        reference = _stages(runs[0]).get("after")
        if run is not runs[0] and reference is not None and "after" in stages:
            cells = _differences(reference, stages["after"], names)
            rows.append(ResultRow(run.label, f"after − {runs[0].label}", True, cells))
    return [row for row in rows if row.cells]


def paired_difference(first: EvaluationResult, second: EvaluationResult, metric: str) -> Estimate | None:
    """``second - first`` in a metric over the problems that both were evaluated on.

    None where it would not mean anything: other settings, no problem in common, a metric that is not kept problem by
    problem, or DSD under two dictionaries or estimators.
    """
    if not same_settings(first, second):
        return None
    value_of = per_problem_value(metric)
    if value_of is None or (metric == "dsd" and not _same_dsd(first, second)):
        return None
    others = {problem.id: problem for problem in second.per_problem}
    pairs = [(problem, others[problem.id]) for problem in first.per_problem if problem.id in others]
    if not pairs:
        return None
    values = [np.array([value_of(problem) for problem in side]) for side in zip(*pairs, strict=True)]
    if metric != "entropy":
        return bootstrap_difference(*values)
    # Entropy is a mean over tokens; as many samples a problem on both sides, so mean lengths weigh like token counts.
    weights = [np.array([problem.length or 0.0 for problem in side]) for side in zip(*pairs, strict=True)]
    return bootstrap_difference(*values, *weights)


def comparison_table(comparison: Comparison) -> Html:
    """Methods over seeds: values, then differences to the baseline with their p-values; what is seen is bold."""
    names = list(dict.fromkeys(name for row in comparison.methods for name in row.values))
    heads = [element("th", heading) for heading in ("method", "seeds", *map(_heading, names))]
    for name in comparison.metrics:
        heads += [element("th", f"{_heading(name)} − {comparison.baseline}"), element("th", "p")]
    body = []
    for row in comparison.methods:
        cells = [element("td", _cell(row.values.get(name), name, False), class_="number") for name in names]
        for name in comparison.metrics:
            found = row.differences.get(name)
            shown = _cell(found and found.mean, name, True, is_bold=bool(found and found.is_seen))
            p_value = element("td", found.shown_p if found else "–", class_="number")
            cells += [element("td", shown, class_="number"), p_value]
        seeds = element("td", str(len(row.seeds)), class_="number")
        body.append(element("tr", element("td", row.method, class_="run"), seeds, *cells, class_="first"))
    return element("table", element("thead", element("tr", *heads)), element("tbody", *body), class_="results")


def same_settings(first: EvaluationResult, second: EvaluationResult) -> bool:
    """Whether two evaluations may be compared."""
    return all(getattr(first, name) == getattr(second, name) for name in _SETTINGS)


def results_table(rows: Sequence[ResultRow], names: Sequence[str]) -> Html:
    """The rows as an HTML table; a difference whose interval excludes zero is bold."""
    head = element("tr", element("th", "run"), element("th", ""), *(element("th", _heading(name)) for name in names))
    body = []
    for position, row in enumerate(rows):
        is_first = position == 0 or rows[position - 1].run != row.run
        cells = [element("td", _cell(row.cells.get(name), name, row.is_difference), class_="number") for name in names]
        classes = " ".join(["first"] * is_first + ["difference"] * row.is_difference)
        label = element("td", row.run if is_first else "", class_="run")
        body.append(element("tr", label, element("td", row.what, class_="what"), *cells, class_=classes))
    return element("table", element("thead", head), element("tbody", *body), class_="results")


def _stages(run: RunRecord) -> dict[str, EvaluationResult]:
    return {stage: run.evaluations[stage] for stage in ("before", "after") if stage in run.evaluations}


def _differences(first: EvaluationResult, second: EvaluationResult, names: Sequence[str]) -> dict[str, Estimate]:
    found = {name: paired_difference(first, second, name) for name in names}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _same_dsd(first: EvaluationResult, second: EvaluationResult) -> bool:
    if first.dsd_estimator != second.dsd_estimator:
        return False
    digests = {spectrum.dictionary_digest if spectrum else None for spectrum in (first.spectrum, second.spectrum)}
    return len(digests) == 1 and None not in digests


def per_problem_value(metric: str) -> Callable[[ProblemResult], float] | None:
    """How to read a metric off one problem; NaN where the problem has none."""
    if metric.startswith("pass@"):
        k = int(metric[5:])
        return lambda problem: (
            pass_at_k(problem.num_scored, problem.num_correct, k) if problem.num_scored >= k else float("nan")
        )
    if metric not in _FIELDS:
        return None

    def value_of(problem: ProblemResult) -> float:
        value = getattr(problem, _FIELDS[metric])
        return float("nan") if value is None else float(value)

    return value_of


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
