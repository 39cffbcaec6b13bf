"""The data behind a comparison as CSV files: a row a run, a row a problem of a run, a row a method and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from relax_rl.comparison.discovery import discovered
from relax_rl.comparison.methods import Comparison
from relax_rl.comparison.records import RunRecord
from relax_rl.runs import RunDirectory, write_whole

__all__ = ["METHOD_COLUMNS", "PROBLEM_FIELDS", "csv_text", "method_rows", "write_comparison_data"]

METHOD_COLUMNS = (
    *("method", "metric", "seeds", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "p", "corrected_p", "seeds_needed", "detectable"),
    *("worst", "best"),
)
_RUN_COLUMNS = (
    *("method", "seed", "evaluation", "updates", "seconds", "tokens"),
    *("first_reward", "problems_rewarded", "solutions_ever", "solutions_now"),
)
FRONTIER_COLUMNS = ("method", "metric", "seeds", "distance", "low", "high", "p", "corrected_p", "verdict")
PROBLEM_FIELDS = ("num_correct", "num_scored", "mean_score", "entropy", "length", "dsd", "truncated")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def write_comparison_data(comparison: Comparison, runs: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write ``methods.csv``, ``runs.csv``, ``problems.csv`` and, where methods trace a frontier, ``frontier.csv``.

    Returns:
        Their paths.
    """
    names = list(dict.fromkeys(name for run in runs for e in run.evaluations.values() for name in e.metrics))
    texts = {
        "methods.csv": csv_text(METHOD_COLUMNS, method_rows(comparison)),
        "runs.csv": csv_text((*_RUN_COLUMNS, *names), _runs(runs, names)),
        "problems.csv": csv_text(("method", "seed", "evaluation", "problem", *PROBLEM_FIELDS), _problems(runs)),
    }
    if comparison.frontier:
        texts["frontier.csv"] = csv_text(FRONTIER_COLUMNS, _against_frontier(comparison))
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def method_rows(comparison: Comparison) -> list[tuple[Any, ...]]:
    """One row a method and metric, after training; a difference to the baseline where it was tested."""
    rows = []
    for summary in comparison.methods:
        for metric, mean in summary.values.items():
            found = summary.differences.get(metric)
            difference = (None,) * 7
            if found is not None:
                of = found.mean
                difference = (
                    of.value,
                    of.low,
                    of.high,
                    of.p_value,
                    found.corrected_p,
                    found.seeds_needed,
                    found.detectable,
                )
            bounds = summary.bounds.get(metric)
            ends = (None, None) if bounds is None else (bounds.worst, bounds.best)
            rows.append((summary.method, metric, mean.num_seeds, mean.value, mean.low, mean.high, *difference, *ends))
    return rows


def _against_frontier(comparison: Comparison) -> Iterable[Sequence[Any]]:
    for found in comparison.above:
        test = found.test
        tested = (None,) * 4
        if test is not None:
            tested = (test.distance.low, test.distance.high, test.distance.p_value, test.p_value)
        yield (found.method, found.breadth, found.num_seeds, found.distance, *tested, found.verdict)


def _runs(runs: Sequence[RunRecord], names: Sequence[str]) -> Iterable[Sequence[Any]]:
    for run in runs:
        found = discovered(RunDirectory.open(run.path))
        spent = (len(run.metrics), run.seconds, run.tokens)
        spent += (found.first_reward, found.problems, found.ever, found.now)
        for stage, evaluation in run.evaluations.items():
            estimates = [evaluation.metrics.get(name) for name in names]
            values = [None if estimate is None else estimate.value for estimate in estimates]
            yield (run.method, run.seed, stage, *(spent if stage == "after" else (0, 0, 0, *(None,) * 4)), *values)


def _problems(runs: Sequence[RunRecord]) -> Iterable[Sequence[Any]]:
    for run in runs:
        for stage, evaluation in run.evaluations.items():
            for problem in evaluation.per_problem:
                fields = [getattr(problem, name) for name in PROBLEM_FIELDS]
                yield (run.method, run.seed, stage, problem.id, *fields)
