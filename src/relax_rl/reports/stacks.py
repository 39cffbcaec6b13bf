"""Stacked bars: the parts of a whole, side by side; as a figure, and as a cell of a table that follows dark mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from relax_rl.reports.canvas import INK, as_axes, quieten
from relax_rl.reports.markup import Html, element, join

__all__ = ["plot_stacks", "stack_cell", "stack_key"]


def plot_stacks(
    stacks: Mapping[str, Mapping[str, float]],
    colors: Mapping[str, str],
    ax: Axes | None = None,
    *,
    unit: str = "",
    inks: Mapping[str, str] | None = None,
) -> Axes:
    """Draw one stacked bar for each whole.

    Args:
        stacks: values by whole, then by part; a part that is missing counts as 0.
        colors: colour of each part, in the order of the bar.
        unit: name of the axis.
        inks: colours of the values, printed into the bar, by part; None: no values are printed.
    """
    ax = as_axes(ax, (6.0, 0.8 + 0.42 * max(1, len(stacks))))
    quieten(ax)
    left = np.zeros(len(stacks))
    for part, color in colors.items():
        values = np.array([float(found.get(part, 0.0)) for found in stacks.values()])
        bars = ax.barh(range(len(stacks)), values, left=left, height=0.58, color=color, label=part)
        if inks is not None:
            words = [f"{value:g}" if value else "" for value in values]
            ax.bar_label(bars, words, label_type="center", fontsize=8, color=inks.get(part, INK))
        left = left + values
    ax.set_yticks(range(len(stacks)), list(stacks))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.invert_yaxis()
    ax.set_xlabel(unit, fontsize=8.5, color=INK)
    ax.legend(frameon=False, fontsize=8, ncols=len(colors), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def stack_cell(shares: Sequence[tuple[str, float, str]]) -> Html:
    """A bar as a table cell; a dash where there is nothing to show.

    Args:
        shares: words, share of the whole, and CSS colour of each part.
    """
    parts = [
        element("span", style=f"width:{100 * share:.2f}%;background:{color}", title=words)
        for words, share, color in shares
    ]
    return element("td", element("div", *parts, class_="stack") if parts else "–")


def stack_key(words: str, color: str) -> Html:
    """The name of a part behind its colour, as the heading of a column."""
    return join((element("span", class_="stack-key", style=f"background:{color}"), words))
