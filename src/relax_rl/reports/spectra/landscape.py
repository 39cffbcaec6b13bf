"""The page about a landscape of models: where their dynamics lie, and whether they are apart by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relax_rl.reports.canvas import INK, as_axes, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download, figure, listed
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.spectra.landscape import ModelLandscape

__all__ = ["coherence_rows", "plot_between", "plot_landscape", "write_landscape_page"]

_MARKERS = "osD^v<>P"


def write_landscape_page(
    landscapes: Sequence[ModelLandscape], source: str, command: Sequence[str], output: Path
) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    models = list(landscapes[0].points)
    title = f"Dynamical landscape of {listed(models)}"
    sections = [_table(landscapes)]
    for landscape in landscapes:
        caption = (
            f"A point a prompt, distances by {landscape.method}; the plane shows "
            f"{100 * landscape.explained:.0f} % of them. Read: separate clouds are models with dynamics of their own; "
            "mixed ones differ by prompt more than by model."
        )
        drawn = figure(svg_source(_figure_of(plot_landscape(landscape))), landscape.method, caption)
        heat = figure(
            svg_source(_figure_of(plot_between(landscape))),
            f"{landscape.method} between models",
            "Mean distance between trajectories of two models on different prompts; on the diagonal, within a model. "
            "Read: a diagonal darker than its row is a model that is closer to itself than to the others.",
        )
        panels = element("div", drawn, heat, class_="panels")
        sections.append(element("section", element("h2", f"By {landscape.method}"), panels))
    rows = [
        (land.method, model, place + 1, *point, land.clusters[model][place])
        for land in landscapes
        for model, points in land.points.items()
        for place, point in enumerate(points)
    ]
    sections.append(download("landscape.csv", ("method", "model", "prompt", "x", "y", "cluster"), rows))
    return write_page(title, source, sections, command, output)


def coherence_rows(landscapes: Sequence[ModelLandscape]) -> list[list[str]]:
    """Method, silhouette, p, cluster silhouette, model, coherence: for the page and for the terminal."""
    rows = []
    for land in landscapes:
        for place, (model, ratio) in enumerate(land.coherence.items()):
            first = [land.method, f"{land.silhouette:.3f}", f"{land.p_value:.3f}", f"{land.cluster_silhouette:.3f}"]
            shown = first if place == 0 else [""] * len(first)
            rows.append([*shown, model, f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"])
    return rows


def _table(landscapes: Sequence[ModelLandscape]) -> Html:
    names = ("distance", "silhouette", "p", "of clusters", "model", "coherence")
    note = (
        "Silhouette: how far models are apart, measured by how far prompts are within each (1 apart, 0 mixed); p: "
        "share of shufflings of the models within each prompt that reach it. Of clusters: that of as many clusters as "
        "models, found without their names. Coherence: mean distance within a model over that to the others, with a "
        "95 % bootstrap interval over prompts; below 1 the model has dynamics of its own."
    )
    table = cells_table(names, coherence_rows(landscapes), "Silhouettes and coherence")
    return noted_section("Are the models apart?", table, note=note)


def _figure_of(ax: Axes) -> Figure:
    found = ax.get_figure(root=True)
    assert found is not None  # axes of a plot function have one
    return found


def plot_landscape(landscape: ModelLandscape, ax: Axes | None = None) -> Axes:
    """Draw a point a prompt in the plane of the distances, a colour and marker a model."""
    ax = as_axes(ax, (4.6, 3.9))
    quieten(ax)
    for place, (model, points) in enumerate(landscape.points.items()):
        x, y = np.array(points).T
        marker = _MARKERS[place % len(_MARKERS)]
        ax.scatter(x, y, s=26, color=color_of(place), marker=marker, alpha=0.8, linewidths=0, label=model)
    ax.set_xlabel("first axis", fontsize=8.5, color=INK)
    ax.set_ylabel("second axis", fontsize=8.5, color=INK)
    legend = ax.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def plot_between(landscape: ModelLandscape, ax: Axes | None = None) -> Axes:
    """Draw the mean distances between models as shades with their numbers."""
    names, values = list(landscape.points), np.array(landscape.between)
    size = min(4.0, 2.2 + 0.4 * len(names))
    ax = as_axes(ax, (size + 0.6, size))
    image = ax.imshow(values, cmap="viridis", vmin=0.0)
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8, parse_math=False)
    ax.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    middle = values.max() / 2
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < middle else INK
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    bar = _figure_of(ax).colorbar(image, ax=ax, shrink=0.8)
    bar.ax.tick_params(labelsize=8, width=0.6)
    return ax
