"""Latent spectra drawn: by depth, by length, by mode, and as paths. One to two models, the second dashed or below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, linestyle_of, quieten
from relax_rl.reports.spectra.planes import plot_spectrum
from relax_rl.reports.spectra.tables import half_life, site_summaries
from relax_rl.spectra.difference import prompt_means
from relax_rl.spectra.measure import LatentSpectra, Pseudospectrum, SiteSpectrum

__all__ = [
    "PATH_WINDOW",
    "draw_depth",
    "draw_half_lives",
    "draw_lengths",
    "draw_moduli",
    "draw_paths",
    "draw_planes",
    "draw_pseudospectra",
    "make_log_if_wide",
    "plot_depth",
    "plot_half_lives",
    "plot_lengths",
    "plot_moduli",
    "plot_paths",
    "plot_pseudospectrum",
    "site_color",
]

_MOST_POINTS = 400
"""Most points of a path: more are thinned out, which no eye sees and every file pays for."""
_LONGEST_SHOWN = 1e4
PATH_WINDOW = 16
"""Tokens of the moving mean that a path is drawn by."""


def site_color(position: int, count: int) -> tuple[float, float, float, float]:
    """From pale to dark with depth."""
    return colormaps["viridis_r"](0.12 + 0.88 * position / max(count - 1, 1))


def _label(ax: Axes, x: str, y: str, title: str = "") -> None:
    ax.set_xlabel(x, fontsize=8.5, color=INK)
    ax.set_ylabel(y, fontsize=8.5, color=INK)
    if title:
        ax.set_title(title, fontsize=9.5, color=INK, loc="left", parse_math=False)


def _grid(count: int, width: float, height: float, most: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(count, most)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


def draw_planes(models: Sequence[LatentSpectra]) -> Figure:
    """The pooled eigenvalues of every site in the complex plane, coloured by residual."""
    planes = [(spectra, site) for spectra in models for site in spectra.sites]
    if len(models) > 1:  # a site of one model beside that of the other
        names = list(dict.fromkeys(site.site for _, site in planes))
        planes.sort(key=lambda plane: names.index(plane[1].site))
    figure, axes = _grid(len(planes), 2.9, 3.0, most=3 if len(models) == 1 else 4)
    largest = max((modulus for _, site in planes for modulus in site.moduli), default=1.0)
    for (spectra, site), ax in zip(planes, axes, strict=False):
        plot_spectrum(site, ax, extent=1.1 * min(2.0, max(1.0, largest)))
        name = site.site if len(models) == 1 else f"{spectra.model}, {site.site}"
        kind = "" if site.residual_kind == "primal" else f" ({site.residual_kind})"
        ax.set_title(name + kind, fontsize=9.5, color=INK, parse_math=False)
        ax.label_outer()
    drawn = [collection for ax in axes for collection in ax.collections if collection.get_gid()]
    if drawn:
        bar = figure.colorbar(drawn[0], ax=axes, shrink=0.6, aspect=30, pad=0.015)
        bar.set_label("residual", fontsize=8.5, color=INK)
        bar.ax.tick_params(labelsize=8, width=0.6)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def draw_moduli(models: Sequence[LatentSpectra]) -> Figure:
    """The moduli of the pooled modes, largest first, one line a site."""
    figure, axes = _grid(len(models), 5.2, 3.2, most=2)
    for spectra, ax in zip(models, axes, strict=False):
        plot_moduli(spectra, ax, title=spectra.model if len(models) > 1 else "")
    return figure


def plot_moduli(spectra: LatentSpectra, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw the moduli of the pooled modes against their rank, a line a site."""
    ax = as_axes(ax, (5.2, 3.2))
    quieten(ax)
    for position, site in enumerate(spectra.sites):
        color = site_color(position, len(spectra.sites))
        ranks = range(1, len(site.moduli) + 1)
        ax.plot(ranks, site.moduli, color=color, marker=".", markersize=3.5, linewidth=1.1, label=site.site)
    ax.axhline(1.0, color=MUTED, linewidth=0.7)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(ax, "mode, slowest first", "modulus |λ|", title)
    ax.legend(frameon=False, fontsize=8)
    return ax


def draw_depth(models: Sequence[LatentSpectra]) -> Figure:
    """DSD site by site: a dot a prompt, the mean with its interval; one panel an estimator."""
    estimators = models[0].settings.estimators
    figure, axes = _grid(len(estimators), 5.2, 3.2, most=2)
    for estimator, ax in zip(estimators, axes, strict=False):
        plot_depth(models, estimator, ax)
    return figure


def plot_depth(models: Sequence[LatentSpectra], estimator: str, ax: Axes | None = None) -> Axes:
    """Draw DSD by one estimator site by site: a dot a prompt, the mean with its interval."""
    ax = as_axes(ax, (5.2, 3.2))
    quieten(ax)
    names = list(dict.fromkeys(site.site for spectra in models for site in spectra.sites))
    for position, spectra in enumerate(models):
        shift = 0.22 * (position - (len(models) - 1) / 2)
        _add_depth(ax, spectra, estimator, names, shift, position)
    ax.set_xticks(range(len(names)), [name.removesuffix("_out") for name in names], rotation=20, ha="right")
    make_log_if_wide(ax)
    _label(ax, "", "DSD", estimator)
    if len(models) > 1 and ax.containers:
        legend = ax.legend(frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return ax


def _add_depth(ax: Axes, spectra: LatentSpectra, estimator: str, names: list[str], shift: float, position: int) -> None:
    color = color_of(position)
    means: list[tuple[float, float, float, float]] = []
    for summary in site_summaries(spectra):
        place = names.index(summary.site) + shift
        values = list(prompt_means(spectra, summary.site, f"dsd/{estimator}").values())
        spread = 0.06 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(len(values))
        ax.scatter(place + spread, values, s=7, color=color, alpha=0.3, linewidths=0)
        estimate = summary.dsd[estimator]
        if estimate is not None:
            means.append((place, estimate.value, estimate.low, estimate.high))
    if means:
        places, values, lows, highs = np.array(means).T
        ax.plot(places, values, color=color, linewidth=1.0, linestyle=linestyle_of(6 * position))
        ax.errorbar(
            places,
            values,
            [values - lows, highs - values],
            fmt="o",
            markersize=4.5,
            color=color,
            capsize=2.5,
            linewidth=1.2,
            label=spectra.model,
        )


def draw_lengths(models: Sequence[LatentSpectra]) -> Figure:
    """DSD of the first tokens against their number, mean over the texts that are that long; a line a site."""
    estimators = models[0].settings.estimators
    figure, axes = _grid(len(estimators), 5.2, 3.2, most=2)
    for estimator, ax in zip(estimators, axes, strict=False):
        plot_lengths(models, estimator, ax)
    drawn = next((ax for ax in axes if ax.lines), None)
    if drawn is not None:  # one legend: the colours are the same throughout
        drawn.legend(frameon=False, fontsize=8)
    return figure


def plot_lengths(models: Sequence[LatentSpectra], estimator: str, ax: Axes | None = None) -> Axes:
    """Draw DSD by one estimator of the first tokens against their number, a line a site."""
    ax = as_axes(ax, (5.2, 3.2))
    quieten(ax)
    for order, spectra in enumerate(models):
        for position, site in enumerate(spectra.sites):
            lengths, means = length_curve(spectra, site.site, estimator)
            if len(lengths) == 0:
                continue
            label = site.site if order == 0 else None
            color = site_color(position, len(spectra.sites))
            style = linestyle_of(6 * order)
            ax.plot(lengths, means, style, color=color, marker="o", markersize=3, linewidth=1.2, label=label)
    make_log_if_wide(ax)
    _label(ax, "tokens from the start of the text", "DSD", estimator)
    if not ax.lines:
        ax.set(xticks=[], yticks=[])
        words = "too few texts are long enough"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", color=MUTED, fontsize=9)
    return ax


def length_curve(spectra: LatentSpectra, site: str, estimator: str) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and mean DSD of those texts that reach the longest length that a quarter of all texts reach.

    The same texts at every length, so that a slope is not one of composition. Empty where that makes no two lengths.
    """
    curves = [dict(row.by_length.get(estimator, ())) for row in spectra.at(site)]
    reached = sorted({length for curve in curves for length in curve})
    longest = [length for length in reached if 4 * sum(length in curve for curve in curves) >= len(curves)]
    chosen = [curve for curve in curves if longest and longest[-1] in curve]
    lengths = [length for length in reached if chosen and all(length in curve for curve in chosen)]
    if len(lengths) < 2:
        return np.empty(0), np.empty(0)
    return np.array(lengths), np.array([np.mean([curve[length] for curve in chosen]) for length in lengths])


def make_log_if_wide(ax: Axes) -> None:
    """A log axis where positive values span more than a decade."""
    values = np.concatenate(
        [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
        + [np.asarray(c.get_offsets())[:, 1] for c in ax.collections if len(np.asarray(c.get_offsets()))]
        or [np.empty(0)]
    )
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(bottom=0)


def draw_pseudospectra(models: Sequence[LatentSpectra]) -> Figure | None:
    """r(z) at the deepest site, shaded, with the eigenvalues; None where residuals are vacuous."""
    grids = [(s, s.sites[-1], s.sites[-1].pseudospectrum) for s in models if s.sites]
    shown = [(spectra, site, grid) for spectra, site, grid in grids if grid is not None]
    if not shown:
        return None
    figure, axes = _grid(len(shown), 5.0, 4.2, most=2)
    for (spectra, site, grid), ax in zip(shown, axes, strict=False):
        plot_pseudospectrum(site, grid, ax, title=f"{spectra.model}, {site.site}")
        bar = figure.colorbar(ax.collections[0], ax=ax, shrink=0.85, aspect=28, pad=0.02)
        bar.set_label("smallest residual r(z)", fontsize=8.5, color=INK)
        bar.ax.tick_params(labelsize=8, width=0.6)
    return figure


def plot_pseudospectrum(site: SiteSpectrum, grid: Pseudospectrum, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw r(z) shaded, from 0 dark to 1 pale, its contour at 0.5, and the eigenvalues."""
    ax = as_axes(ax, (5.0, 4.2))
    upper = np.array(grid.values)
    values = np.vstack([upper[:0:-1], upper])
    imaginary = np.concatenate([-np.array(grid.imaginary)[:0:-1], grid.imaginary])
    quieten(ax)
    levels = np.linspace(0.0, 1.0, 11)
    ax.contourf(grid.real, imaginary, values.clip(0, 1), levels=levels, cmap="viridis")
    ax.contour(grid.real, imaginary, values, levels=[0.5], colors="white", linewidths=0.8)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="white", linewidth=0.9, linestyle=":"))
    ax.scatter(*np.array(site.eigenvalues).reshape(-1, 2).T, s=9, color="white", edgecolors=INK, linewidths=0.5)
    ax.set(xlim=(grid.real[0], grid.real[-1]), ylim=(imaginary[0], imaginary[-1]), aspect="equal")
    _label(ax, "Re λ", "Im λ", title)
    return ax


def draw_half_lives(models: Sequence[LatentSpectra]) -> Figure:
    """Half-life of every pooled mode against its residual, with the line on which modes of pure chance lie."""
    figure, axes = _grid(len(models), 5.2, 3.4, most=2)
    for spectra, ax in zip(models, axes, strict=False):
        plot_half_lives(spectra, ax, title=spectra.model if len(models) > 1 else "")
    return figure


def plot_half_lives(spectra: LatentSpectra, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw the residual of each pooled mode against its half-life, a colour a site; dashed: modes of pure chance."""
    ax = as_axes(ax, (5.2, 3.4))
    quieten(ax)
    for position, site in enumerate(spectra.sites):
        lives = np.array([min(half_life(modulus), _LONGEST_SHOWN) for modulus in site.moduli])
        shown, color = lives > 0, site_color(position, len(spectra.sites))
        look = {"s": 13, "linewidths": 0, "alpha": 0.8, "color": color, "label": site.site}
        ax.scatter(lives[shown], np.array(site.residuals)[shown], **look)  # type: ignore[arg-type]
    lives = np.geomspace(0.1, _LONGEST_SHOWN, 200)
    ax.plot(lives, np.sqrt(1 - 4.0 ** (-1 / lives)), color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "no decay" if value >= _LONGEST_SHOWN else f"{value:g}")
    )
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(0, max(1.05, ax.get_ylim()[1]))
    _label(ax, "half-life in tokens", "residual", title)
    ax.legend(frameon=False, fontsize=8)
    return ax


def draw_paths(spectra: LatentSpectra) -> Figure:
    """The first texts in the plane of the two leading principal components of each site.

    A pale dot a token, a line the moving mean over `PATH_WINDOW` tokens, a large dot where each begins.
    """
    sites = [site.site for site in spectra.sites]
    figure, axes = _grid(len(sites), 3.3, 3.1)
    for site, ax in zip(sites, axes, strict=False):
        points = [np.array(path.points).reshape(-1, 2) for path in spectra.paths if path.site == site]
        plot_paths(points, ax)
        _label(ax, "component 1", "component 2", site)
    return figure


def plot_paths(paths: Sequence[np.ndarray], ax: Axes | None = None) -> Axes:
    """Draw trajectories (T_i, 2): a pale dot a token, a line their moving mean; those not finite are left out."""
    ax = as_axes(ax, (3.3, 3.1))
    quieten(ax)
    paths = [path for path in paths if len(path) and np.isfinite(path).all()]
    for position, path in enumerate(paths):
        thin = path[:: max(1, len(path) // _MOST_POINTS)]
        ax.scatter(*thin.T, color=color_of(position), s=4, linewidths=0, alpha=0.3)
        window = min(PATH_WINDOW, len(path))
        mean = np.stack([np.convolve(part, np.full(window, 1 / window), mode="valid") for part in path.T], axis=1)
        ax.plot(*mean[:: max(1, len(mean) // _MOST_POINTS)].T, color=color_of(position), linewidth=1.3, zorder=3)
        ax.scatter(*mean[:1].T, color=color_of(position), s=30, edgecolors="white", linewidths=0.8, zorder=4)
    if paths:
        # A few tokens of huge states, as most models have them, would leave the others a point.
        low, high = np.quantile(np.concatenate(paths), [0.005, 0.995], axis=0)
        margin = 0.08 * (high - low) + 1e-12
        ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    return ax
