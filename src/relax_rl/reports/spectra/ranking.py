"""How well scores tell two kinds apart: areas under the ROC curve, drawn and as rows, a score beside its controls."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from relax_rl.reports.canvas import INK, MUTED, color_of, quieten
from relax_rl.statistics.intervals import Estimate

__all__ = ["draw_areas", "interval_text"]


def interval_text(estimate: Estimate | None, form: str = ".3f") -> str:
    """A value with its interval; a dash for none."""
    if estimate is None:
        return "–"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def draw_areas(areas: Mapping[str, Estimate], claim: str) -> Figure:
    """A row a score, the point its AUC and the line its interval; the one that makes the claim in colour."""
    drawn = Figure(figsize=(4.4, 0.7 + 0.34 * len(areas)), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    for place, (name, area) in enumerate(areas.items()):
        color = color_of(0) if name == claim else MUTED
        ax.plot([area.low, area.high], [place, place], color=color, linewidth=1.6)
        ax.plot([area.value], [place], marker="o", markersize=5, color=color)
    ax.axvline(0.5, color=INK, linewidth=0.7, linestyle=":")
    ax.set_yticks(range(len(areas)), list(areas), parse_math=False)
    ax.set_ylim(len(areas) - 0.5, -0.5)
    lowest = min([0.5, *(area.low for area in areas.values())])
    ax.set_xlim(lowest - 0.03, 1.02)
    ax.set_xlabel("AUC", fontsize=8.5, color=INK)
    return drawn
