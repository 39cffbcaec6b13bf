"""The two breadths as pictures: problems won and lost, and solutions won and lost within problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relax_rl.comparison.pairs import comparability
from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.result import ProblemResult
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, quieten

__all__ = [
    "BREADTH_COLUMNS",
    "FATES",
    "breadth_rows",
    "draw_breadth",
    "fate",
    "fates_of",
    "mode_changes_of",
    "paired_problems",
    "plot_fates",
    "plot_mode_changes",
]

FATES = {"won": "#0072b2", "kept": "#9ecae1", "never solved": "#dddddd", "lost": "#d55e00"}
"""What can become of a problem, with the colour of each."""
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
        fates: by run; of each, the number of problems by name of `FATES`.
    """
    ax = as_axes(ax, (6.0, 0.8 + 0.42 * max(1, len(fates))))
    quieten(ax)
    left = np.zeros(len(fates))
    for name, color in FATES.items():
        counts = np.array([float(found.get(name, 0)) for found in fates.values()])
        bars = ax.barh(range(len(fates)), counts, left=left, height=0.6, color=color, label=name)
        ink = INK if name in ("kept", "never solved") else "white"
        ax.bar_label(bars, [f"{int(c)}" if c else "" for c in counts], label_type="center", fontsize=8, color=ink)
        left = left + counts
    ax.set_yticks(range(len(fates)), list(fates))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.invert_yaxis()
    ax.set_xlabel("problems", fontsize=8.5, color=INK)
    ax.legend(frameon=False, fontsize=8, ncols=len(FATES), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def plot_mode_changes(changes: Mapping[str, Sequence[int]], ax: Axes | None = None) -> Axes:
    """Draw how many problems won or lost how many solutions; a group of bars a change, a colour a run.

    Args:
        changes: by run; of each problem, solutions found after minus before training.
    """
    ax = as_axes(ax, (6.0, 2.8))
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
    if changes:
        plot_mode_changes(changes, axes[1])
    return figure


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
