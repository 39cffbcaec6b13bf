"""The two breadths as pictures: problems won and lost, and solutions won and lost within problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relax_rl.comparison.pairs import comparability
from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.result import ProblemResult
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, quieten
from relax_rl.reports.document import wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.reports.stacks import plot_stacks, stack_cell, stack_key

__all__ = [
    "BREADTH_COLUMNS",
    "FATES",
    "breadth_rows",
    "draw_breadth",
    "draw_mode_changes",
    "fate",
    "fates_of",
    "fates_table",
    "mode_changes_of",
    "paired_problems",
    "plot_fates",
    "plot_mode_changes",
]

FATES = {"won": "#0072b2", "kept": "#9ecae1", "never solved": "#dddddd", "lost": "#d55e00"}
"""The fates of a problem, with the colour of each in figures."""
_CSS_COLORS = {
    "won": "var(--c0)",
    "kept": "color-mix(in srgb, var(--c0) 40%, var(--back))",
    "never solved": "var(--rule)",
    "lost": "var(--c1)",
}
_SIZE_OF_CHANGES = (4.6, 2.6)
BREADTH_COLUMNS = ("run", "problem", "fate", "solutions before", "solutions after")


def paired_problems(run: RunRecord) -> list[tuple[ProblemResult, ProblemResult]]:
    """Each problem before and after training; empty where the two evaluations may not be compared."""
    before, after = run.evaluations.get("before"), run.evaluations.get("after")
    if before is None or after is None or not comparability(before, after).is_comparable:
        return []
    others = {problem.id: problem for problem in before.per_problem}
    return [(others[problem.id], problem) for problem in after.per_problem if problem.id in others]


def fate(before: ProblemResult, after: ProblemResult) -> str:
    """The name in `FATES` of a problem's fate: solved means that at least one sample is right."""
    names = {(False, True): "won", (True, False): "lost", (True, True): "kept", (False, False): "never solved"}
    return names[before.num_correct > 0, after.num_correct > 0]


def fates_of(run: RunRecord) -> dict[str, int]:
    """How many problems have each fate; empty without comparable evaluations."""
    found = Counter(fate(*pair) for pair in paired_problems(run))
    return {name: found[name] for name in FATES} if found else {}


def mode_changes_of(run: RunRecord) -> list[int]:
    """Solutions that training added to each problem (negative: lost); empty where modes are unknown."""
    pairs = paired_problems(run)
    return [len(b.modes) - len(a.modes) for a, b in pairs if a.modes is not None and b.modes is not None]


def plot_fates(fates: Mapping[str, Mapping[str, int]], ax: Axes | None = None) -> Axes:
    """Draw a stacked bar a run of its problems: won, kept, never solved, lost.

    Args:
        fates: number of problems by run, then by name of `FATES`.
    """
    return plot_stacks(fates, FATES, ax, unit="problems", inks={"won": "white", "lost": "white"})


def plot_mode_changes(changes: Mapping[str, Sequence[int]], ax: Axes | None = None) -> Axes:
    """Draw how many problems won or lost how many solutions; a group of bars a change, a colour a run.

    Args:
        changes: solutions found after minus before training, by run, then for each problem.
    """
    ax = as_axes(ax, _SIZE_OF_CHANGES)
    quieten(ax)
    width = 0.8 / max(1, len(changes))
    for position, (name, found) in enumerate(changes.items()):
        counts = Counter(found)
        places = sorted(counts)
        shift = (position - (len(changes) - 1) / 2) * width
        heights = [counts[place] for place in places]
        ax.bar([place + shift for place in places], heights, width, color=color_of(position), label=name)
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("solutions of a problem, after − before", fontsize=8.5, color=INK)
    ax.set_ylabel("problems", fontsize=8.5, color=INK)
    if changes:
        for text in ax.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    return ax


def draw_breadth(runs: Sequence[RunRecord]) -> Figure | None:
    """Both pictures, the second where modes are known; None without comparable evaluations."""
    fates = {run.label: found for run in runs if (found := fates_of(run))}
    changes = {run.label: found for run in runs if (found := mode_changes_of(run))}
    if not fates:
        return None
    height = max(1.3 + 0.42 * len(fates), 2.9 if changes else 0.0)
    figure = Figure(figsize=(10.6 if changes else 6.8, height), layout="constrained")
    axes = figure.subplots(1, 2 if changes else 1, squeeze=False)[0]
    plot_fates(fates, axes[0])
    room = max(0.0, 3 - len(fates)) / 2  # bars stay bars where few of them share a tall panel
    axes[0].set_ylim(len(fates) - 0.5 + room, -0.5 - room)
    if changes:
        plot_mode_changes(changes, axes[1])
    return figure


def draw_mode_changes(runs: Sequence[RunRecord]) -> Figure | None:
    """The bars of `plot_mode_changes` in a figure of their own; None where no run knows modes."""
    changes = {run.label: found for run in runs if (found := mode_changes_of(run))}
    if not changes:
        return None
    figure = Figure(figsize=_SIZE_OF_CHANGES, layout="constrained")
    plot_mode_changes(changes, figure.add_subplot())
    return figure


def fates_table(runs: Sequence[RunRecord]) -> Html:
    """A row a run: its problems by fate, as numbers and as a bar; empty without comparable evaluations."""
    fates = {run.label: found for run in runs if (found := fates_of(run))}
    if not fates:
        return Html("")
    names = [element("th", "run"), *(element("th", stack_key(name, color)) for name, color in _CSS_COLORS.items())]
    head = element("thead", element("tr", *names, element("th", "share")))
    body = element("tbody", *(_fates_row(label, found) for label, found in fates.items()))
    return wide_table(head, body, class_="results", label="Problems won and lost")


def _fates_row(label: str, fates: Mapping[str, int]) -> Html:
    total = sum(fates.values()) or 1
    cells = [element("td", str(fates[name]), class_="number") for name in _CSS_COLORS]
    shares = [(f"{name} {fates[name]}", fates[name] / total, color) for name, color in _CSS_COLORS.items()]
    return element("tr", element("td", label, class_="run"), *cells, stack_cell(shares))


def breadth_rows(runs: Sequence[RunRecord]) -> list[tuple[str | int | None, ...]]:
    """Rows of `BREADTH_COLUMNS`."""
    return [
        (
            run.label,
            after.id,
            fate(before, after),
            *(None if p.modes is None else len(p.modes) for p in (before, after)),
        )
        for run in runs
        for before, after in paired_problems(run)
    ]
