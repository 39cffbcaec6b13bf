"""The frontier picture of study I: breadth against mean@1, and where each method lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.exploration.design import FRONTIER
from evidence.tables.tables import Rows, methods_of
from relax_rl.reports.canvas import INK, MUTED, color_of, quieten

__all__ = ["frontier_picture", "save_picture"]

PANELS = (
    ("sums", "modes@16", ("i1", "i2", "i5", "i4", "i4b"), "many_solutions: different solutions among 16"),
    ("countdown", "pass@64", ("i1", "i4"), "countdown: problems solved by one of 64"),
    ("maze", "modes@64", ("i1",), "maze: different routes among 64"),
)
MARKERS = "osD^vPX*"


def frontier_picture(rows: Rows) -> Figure | None:
    """A panel for each start that has runs: means over seeds with their standard errors; None where none has."""
    panels = [panel for panel in PANELS if any(row["start"] == panel[0] and row["study"] == FRONTIER for row in rows)]
    if not panels:
        return None
    figure = Figure(figsize=(5.6 * len(panels), 5.6), layout="constrained")
    for ax, (start, breadth, studies, title) in zip(
        np.atleast_1d(np.asarray(figure.subplots(1, len(panels)))).tolist(), panels, strict=True
    ):
        _panel(ax, [row for row in rows if row["start"] == start], breadth, studies)
        ax.set(xlabel="mean@1", ylabel=breadth, title=title)
        quieten(ax)
        ax.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """As SVG that is the same for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "study-i"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(ax: Axes, rows: Rows, breadth: str, studies: Sequence[str]) -> None:
    start = [row for row in rows if row["study"] == "start"]
    for row in start:
        ax.plot(row["mean@1"], row[breadth], "+", color=INK, markersize=9, label="start")
    traced = [row for row in rows if row["study"] == FRONTIER]
    means = []
    for method in methods_of(traced):
        mean, _ = _point(ax, traced, method, breadth, color=MUTED, marker="o")
        ax.annotate(
            method.removeprefix("kl "), mean, fontsize=6, color=MUTED, textcoords="offset points", xytext=(4, 4)
        )
        means.append(mean)
    ax.plot(*zip(*means, strict=True), color=MUTED, linewidth=1.2, label="GRPO with a KL of strength ...")
    contenders = [row for row in rows if row["study"] in studies]
    for position, method in enumerate(methods_of(contenders)):
        color, marker = color_of(position), MARKERS[position % len(MARKERS)]
        _point(ax, contenders, method, breadth, color=color, marker=marker, label=method)


def _point(
    ax: Axes, rows: Rows, method: str, breadth: str, *, color: str, marker: str, label: str | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    values = np.array([(row["mean@1"], row[breadth]) for row in rows if row["method"] == method])
    mean = values.mean(0)
    error = values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros(2)
    ax.errorbar(
        *mean, xerr=error[0], yerr=error[1], color=color, marker=marker, markersize=5, linewidth=0.8, label=label
    )
    return (float(mean[0]), float(mean[1])), (float(error[0]), float(error[1]))
