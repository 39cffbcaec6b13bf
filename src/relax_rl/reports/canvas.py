"""The common parts of all figures: colours, quiet axes, and the way into a page.

Figures are made through `matplotlib.figure.Figure`, so that no global state (pyplot's figures, rcParams) is read for
choice or changed, and drawing in a thread or a notebook has no side effects.
"""

from __future__ import annotations

import base64
import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "as_axes", "color_of", "linestyle_of", "quieten", "svg_source"]

INK = "#222222"
MUTED = "#8a8a8a"

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, distinct under every common colour blindness; its yellow is too pale for lines."""
_LINESTYLES = ("-", "--", ":", "-.")


def color_of(position: int) -> str:
    """Colour of the run at a position; line styles change when the colours repeat."""
    return _COLORS[position % len(_COLORS)]


def linestyle_of(position: int) -> str:
    """Line style of the run at a position."""
    return _LINESTYLES[position // len(_COLORS) % len(_LINESTYLES)]


def as_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or the only axes of a new figure of this size (inches)."""
    return Figure(figsize=size, layout="constrained").add_subplot() if ax is None else ax


def quieten(ax: Axes) -> None:
    """Thin left and bottom spines, small ticks, a pale grid behind the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set(color=MUTED, linewidth=0.6)
    ax.tick_params(which="both", labelsize=8, color=MUTED, labelcolor=INK, width=0.6, length=3)
    ax.grid(visible=True, color="#ececec", linewidth=0.6)
    ax.set_axisbelow(True)


def svg_source(figure: Figure) -> str:
    """The figure as a data URI for an image element: sharp at any size, and its ids cannot meet another figure's."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="none")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
