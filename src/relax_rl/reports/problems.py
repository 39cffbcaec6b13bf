"""Coverage: problems and solutions that training won and lost, and what its rollouts discovered."""

from __future__ import annotations

from collections.abc import Sequence

from relax_rl.comparison.discovery import discovered
from relax_rl.comparison.pairs import comparability, evaluated_stages
from relax_rl.comparison.records import RunRecord
from relax_rl.comparison.solutions import solution_turnover
from relax_rl.comparison.turnover import turnover
from relax_rl.errors import RelaxError
from relax_rl.evaluation.coverage import COVERAGE
from relax_rl.evaluation.result import EvaluationResult, ProblemResult
from relax_rl.reports.breadth import draw_mode_changes, fate, fates_table
from relax_rl.reports.canvas import svg_source
from relax_rl.reports.document import download, figure, wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.reports.tables import result_rows, results_table
from relax_rl.runs import RunDirectory
from relax_rl.statistics.intervals import Estimate

__all__ = ["coverage", "problem_rows"]

_MOST_PROBLEMS = 1000
COLUMNS = ("run", "problem", "change", "right before", "right after", "samples", "modes", "length", "DSD")


def coverage(runs: Sequence[RunRecord]) -> Html:
    """Problems and solutions won and lost beside those of chance, metrics of coverage, discoveries, and a table of all
    problems; empty without evaluations."""
    measured = [run for run in runs if "after" in run.evaluations and run.evaluations["after"].per_problem]
    if not measured:
        return Html("")
    kinds = (_turnover, _solutions, _discovery)
    sentences = [element("li", sentence) for run in measured for kind in kinds if (sentence := kind(run))]
    rows = [row for run in measured for row in problem_rows(run)]
    head = element("tr", *(element("th", name) for name in COLUMNS))
    body = [element("tr", *(element("td", _shown(cell)) for cell in row)) for row in rows[:_MOST_PROBLEMS]]
    note = (
        "A problem counts as won if no sample was right before training and one is right after it. Modes: different "
        "solutions among the right samples, where the task can tell them."
    )
    if len(rows) > _MOST_PROBLEMS:
        note += f" The table has the first {_MOST_PROBLEMS} of {len(rows)} rows, problems.csv all."
    return element(
        "section",
        element("h2", "Problems won and lost", id="problems"),
        *([element("ul", *sentences)] if sentences else []),
        *_pictures(measured),
        *_metrics(measured),
        wide_table(
            element("thead", head), element("tbody", *body), class_="results sortable", label="Problems", is_tall=True
        ),
        element("p", note, class_="note"),
        download("problems.csv", COLUMNS, rows),
    )


def _metrics(runs: Sequence[RunRecord]) -> list[Html]:
    """The metrics of coverage that every evaluation has, before and after training."""
    shared = set.intersection(*(set(result.metrics) for run in runs for result in evaluated_stages(run).values()))
    most = max((int(name.removeprefix("modes@")) for name in shared if name.startswith("modes@")), default=0)
    names = [name for name in (f"modes@{most}", *COVERAGE) if name in shared]
    if not names:
        return []
    note = (
        "modes@k: expected number of different solutions among k samples. effective_modes and top_mode: of the right "
        "samples of a problem. all_wrong and all_right: shares of the problems whose samples agree, from which GRPO "
        "learns nothing."
    )
    return [results_table(result_rows(runs, names), names, "Coverage of the runs"), element("p", note, class_="note")]


def _pictures(runs: Sequence[RunRecord]) -> list[Html]:
    """The fates as bars, and below them the solutions won and lost where modes are known."""
    fates = fates_table(runs)
    if not fates:
        return []
    said = "Problems by their fate in training: solved means that at least one sample is right."
    parts = [fates, element("p", said, class_="note")]
    drawn = draw_mode_changes(runs)
    if drawn is not None:
        alt = f"Solutions won and lost by problem, for {', '.join(run.label for run in runs)}."
        said = "Problems by the number of solutions that they won or lost, at the same number of samples."
        parts.append(figure(svg_source(drawn), alt, said))
    return parts


def problem_rows(run: RunRecord) -> list[tuple[str | float | None, ...]]:
    """Rows of `COLUMNS`: each problem of the evaluation after training, beside the one before where they compare."""
    after = run.evaluations["after"]
    before = run.evaluations.get("before")
    others = {} if before is None or not comparability(before, after).is_comparable else _by_id(before)
    return [_row(run.label, others.get(problem.id), problem) for problem in after.per_problem]


def _by_id(result: EvaluationResult) -> dict[str, ProblemResult]:
    return {problem.id: problem for problem in result.per_problem}


def _row(label: str, before: ProblemResult | None, after: ProblemResult) -> tuple[str | float | None, ...]:
    modes = None if after.modes is None else len(after.modes)
    numbers = (None if before is None else before.num_correct, after.num_correct, after.num_scored, modes)
    return (label, after.id, _change(before, after), *numbers, after.length, after.dsd)


def _change(before: ProblemResult | None, after: ProblemResult) -> str:
    if before is None:
        return "solved" if after.num_correct else "not solved"
    return fate(before, after)


def _comparable(run: RunRecord) -> tuple[EvaluationResult, EvaluationResult] | None:
    """The evaluations before and after training, where a difference between them means something."""
    before, after = run.evaluations.get("before"), run.evaluations["after"]
    return None if before is None or not comparability(before, after).is_comparable else (before, after)


def _turnover(run: RunRecord) -> str:
    pair = _comparable(run)
    found = None if pair is None else turnover(*pair)
    if found is None:
        return ""
    return (
        f"{run.label}: won {_share(found.gained)} of the problems (chance alone: {found.gained_by_chance:.1%}), "
        f"lost {_share(found.lost)} (chance alone: {found.lost_by_chance:.1%})."
    )


def _solutions(run: RunRecord) -> str:
    pair = _comparable(run)
    found = None if pair is None else solution_turnover(*pair)
    if found is None:
        return ""
    words = [
        f"{run.label}: won {_number(found.gained)} solutions a problem (chance alone: {found.gained_by_chance:.2f})",
        f"lost {_number(found.lost)} (chance alone: {found.lost_by_chance:.2f})",
    ]
    half = found.recovery[max(0, len(found.recovery) - 2)]
    words.append(
        f"{half.k} samples recover {_number(half.found)} of the {found.known:.2f} that were found before (chance "
        f"alone: {half.by_chance:.2f})"
    )
    return ", ".join(words) + "."


def _discovery(run: RunRecord) -> str:
    try:
        found = discovered(RunDirectory.open(run.path))
    except (RelaxError, OSError) as error:
        return f"{run.label}: what its rollouts discovered cannot be read: {error}"
    if found.first_reward is None:
        return ""
    words = f"{run.label}: the first reward came at update {found.first_reward}, and on {found.problems} problems"
    if found.ever is not None:
        words += f"; rollouts ever found {found.ever} solutions, and those last sampled still have {found.now}"
    return f"{words}."


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _shown(cell: str | float | None) -> str:
    return "–" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)
