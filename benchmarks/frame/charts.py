"""Figures of the page: every ratio over the results of the history, and how costs grow."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frame.history import Result
from frame.rows import Row
from relax_rl.reports.canvas import INK, MUTED, color_of, linestyle_of, quieten

__all__ = ["draw_growth", "draw_history"]

COLUMNS = 2


def draw_history(results: Sequence[Result], path: Path) -> None:
    """One panel a benchmark, one line a row: its ratio in every result that has it, on a log axis."""
    names = list(dict.fromkeys(name for result in results for name in result.rows if name != "growth"))
    if not names:
        return
    figure = Figure(figsize=(11, 2.9 * -(-len(names) // COLUMNS)), layout="constrained")
    axes = figure.subplots(-(-len(names) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for name, ax in zip(names, axes, strict=False):
        _ratios(ax, name, results)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    _save(figure, path)


def _ratios(ax: Axes, name: str, results: Sequence[Result]) -> None:
    lines: dict[str, dict[int, Row]] = {}
    for place, result in enumerate(results):
        for row in result.rows.get(name, ()):
            lines.setdefault(row.key, {})[place] = row
    for place, found in enumerate(lines.values()):
        last = list(found.values())[-1]
        label = textwrap.shorten(last.name, 46, placeholder=" ...")
        (drawn,) = ax.plot(list(found), [row.ratio for row in found.values()], marker="o", markersize=3, label=label)
        drawn.set(color=color_of(place), linestyle=linestyle_of(place))
        if last.target is not None:
            ax.axhline(last.target, color=color_of(place), linewidth=0.6, alpha=0.5, zorder=0)
    ax.set_yscale("log")
    ax.set_xticks(range(len(results)), [result.date[:10] for result in results], rotation=30, ha="right")
    ax.set_xlim(-0.5, len(results) - 0.5)
    ax.set_title(f"{name}: ratio (thin line: target)", fontsize=9, color=INK, loc="left")
    quieten(ax)
    ax.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_growth(results: Sequence[Result], path: Path) -> None:
    """One panel a row of growth, of the newest result: as measured, and the line that was fitted."""
    having = [result for result in results if "growth" in result.rows]
    if not having:
        return
    rows = having[-1].rows["growth"]
    columns = 5
    figure = Figure(figsize=(2.4 * columns, 2.1 * -(-len(rows) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(rows) // columns), columns, squeeze=False).ravel()
    for row, ax in zip(rows, axes, strict=False):
        sizes, figures = np.array(row.points).T
        ax.loglog(sizes, figures, "o", color=color_of(0), markersize=4)
        scale = np.exp(np.mean(np.log(figures[-2:]) - row.ratio * np.log(sizes[-2:])))
        ax.loglog(sizes, scale * sizes**row.ratio, "-", color=MUTED, linewidth=1)
        ax.set_title(f"{row.name}\nexponent {row.ratio:.2f}", fontsize=7, color=INK, loc="left")
        quieten(ax)
        ax.tick_params(which="both", labelsize=6)
    for ax in axes[len(rows) :]:
        ax.set_axis_off()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Letters as letters and fixed ids: a small file that changes only where a number did.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "relax"}):
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
