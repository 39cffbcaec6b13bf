"""Reward against entropy with the fitted law, its forecast, and the covariance that moves the entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relax_rl.analysis.entropy_law import MIN_POINTS, EntropyForecastError, fit_entropy_law, forecast_from_start
from relax_rl.comparison.records import RunRecord
from relax_rl.errors import DataError
from relax_rl.reports.canvas import INK, MUTED, as_axes, color_of, linestyle_of, quieten

__all__ = [
    "ENTROPY_COLUMNS",
    "FORECAST_SHARE",
    "covariance_changes",
    "draw_entropy",
    "entropy_and_reward",
    "entropy_rows",
    "forecast_of",
    "plot_covariance",
    "plot_forecast",
    "plot_law",
    "shared_series",
]

FORECAST_SHARE = 0.15
"""Share of a run's steps that a forecast is fitted to: the paper's."""
ENTROPY_COLUMNS = ("run", "step", "entropy", "reward", "covariance", "change")


def shared_series(run: RunRecord, first: str, second: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps that have both metrics, and their values there."""
    (steps, values), (other_steps, others) = run.curve(first), run.curve(second)
    shared, place, other_place = np.intersect1d(steps, other_steps, return_indices=True)
    return shared, values[place], others[other_place]


def entropy_and_reward(run: RunRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, entropy and reward."""
    return shared_series(run, "entropy", "reward")


def covariance_changes(run: RunRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, the covariance of an update, and the change of the entropy up to the next logged one."""
    steps, covariance, entropy = shared_series(run, "entropy/covariance", "entropy")
    return steps[:-1], covariance[:-1], np.diff(entropy)


def forecast_of(entropy: np.ndarray, reward: np.ndarray) -> EntropyForecastError | None:
    """The law of the first 15 % of the steps held against the rest; None where there is no such law."""
    try:
        return forecast_from_start(entropy, reward, FORECAST_SHARE)
    except DataError:
        return None


def plot_law(
    entropy: np.ndarray, reward: np.ndarray, ax: Axes | None = None, *, label: str = "", position: int = 0
) -> Axes:
    """Draw reward against entropy, a dot a step, and the fitted law where it holds.

    Args:
        position: number of the run, for its colour.
    """
    ax = _axes(ax, "token entropy (nats)", "reward")
    ax.scatter(entropy, reward, s=9, color=color_of(position), alpha=0.4, linewidths=0, label=label or None)
    try:
        law = fit_entropy_law(entropy, reward)
    except DataError:
        return ax
    line = np.linspace(entropy.min(), entropy.max(), 60)
    ax.plot(line, law.predict(line), color=color_of(position), linestyle=linestyle_of(position), linewidth=1.5)
    return ax


def plot_forecast(
    steps: np.ndarray,
    entropy: np.ndarray,
    reward: np.ndarray,
    ax: Axes | None = None,
    *,
    label: str = "",
    position: int = 0,
) -> Axes:
    """Draw the reward over the steps, and what the law of the first 15 % of them says of the rest."""
    ax = _axes(ax, "step", "reward")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.plot(steps, reward, color=color_of(position), linewidth=0.8, alpha=0.4)
    found = forecast_of(entropy, reward)
    if found is not None:
        start = found.law.num_points
        predicted = found.law.predict(entropy[start:])
        ax.plot(steps[start:], predicted, color=color_of(position), linewidth=1.5, label=label or None)
        ax.axvline(steps[start], color=MUTED, linewidth=0.8, linestyle="--")
    return ax


def plot_covariance(
    covariance: np.ndarray, change: np.ndarray, ax: Axes | None = None, *, label: str = "", position: int = 0
) -> Axes:
    """Draw the change of the entropy after each update against its covariance, with the fitted line through zero."""
    ax = _axes(ax, "covariance of log-probability and advantage", "change of the entropy (nats)")
    ax.axhline(0, color=MUTED, linewidth=0.6)
    ax.axvline(0, color=MUTED, linewidth=0.6)
    ax.scatter(covariance, change, s=9, color=color_of(position), alpha=0.5, linewidths=0, label=label or None)
    squares = float(covariance @ covariance)
    if squares > 0 and len(covariance) > 1:
        ends = np.array([covariance.min(), covariance.max()])
        ax.plot(ends, ends * float(covariance @ change) / squares, color=color_of(position), linewidth=1.4)
    return ax


def draw_entropy(runs: Sequence[RunRecord]) -> Figure | None:
    """The three panels with all runs; None where no run has ten steps with entropy and reward."""
    if not any(len(entropy_and_reward(run)[0]) >= MIN_POINTS for run in runs):
        return None
    figure = Figure(figsize=(10.6, 3.3), layout="constrained")
    law, forecast, covariance = figure.subplots(1, 3)
    for position, run in enumerate(runs):
        steps, entropy, reward = entropy_and_reward(run)
        if len(steps):
            look: dict[str, Any] = {"label": run.label, "position": position}
            plot_law(entropy, reward, law, **look)
            plot_forecast(steps, entropy, reward, forecast, **look)
        _, products, change = covariance_changes(run)
        if len(products):
            plot_covariance(products, change, covariance, label=run.label, position=position)
    _label(law, "Reward against entropy, and the law")
    _label(forecast, "Forecast from the first 15 % of the steps")
    _label(covariance, "What moves the entropy")
    if not forecast.get_legend_handles_labels()[1]:
        forecast.text(0.03, 0.95, "no law in the first 15 %", transform=forecast.transAxes, va="top", **_NOTE)
    if not covariance.collections:
        covariance.text(0.5, 0.5, "not logged", transform=covariance.transAxes, ha="center", **_NOTE)
    legend = law.legend(frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


_NOTE: dict[str, Any] = {"fontsize": 8.5, "color": MUTED}


def entropy_rows(runs: Sequence[RunRecord]) -> list[tuple[Any, ...]]:
    """Rows of `ENTROPY_COLUMNS`; None where an update has no covariance or no next one."""
    rows = []
    for run in runs:
        steps, products, change = covariance_changes(run)
        known = dict(zip(steps.tolist(), zip(products.tolist(), change.tolist(), strict=True), strict=True))
        for step, entropy, reward in zip(*entropy_and_reward(run), strict=True):
            rows.append((run.label, int(step), float(entropy), float(reward), *known.get(float(step), (None, None))))
    return rows


def _axes(ax: Axes | None, x: str, y: str) -> Axes:
    ax = as_axes(ax, (4.2, 3.2))
    quieten(ax)
    ax.set_xlabel(x, fontsize=8.5, color=INK)
    ax.set_ylabel(y, fontsize=8.5, color=INK)
    return ax


def _label(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=9.5, color=INK, loc="left")
