"""Hidden states of one prompt's completions in two dimensions: by principal components, and by t-SNE."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.reports.canvas import INK, as_axes, color_of, quieten

__all__ = [
    "TRAJECTORY_COLUMNS",
    "Trajectory2D",
    "draw_trajectories",
    "plot_trajectories",
    "trajectories_of",
    "trajectory_rows",
]

Projection = Literal["PCA", "t-SNE"]
Shade = Literal["reward", "time"]
PROJECTIONS: tuple[Projection, ...] = ("PCA", "t-SNE")
SHADES: tuple[Shade, ...] = ("reward", "time")
TRAJECTORY_COLUMNS = ("run", "update", "projection", "completion", "reward", "token", "x", "y")

_MOST_POINTS = 320
"""Points of a picture: t-SNE compares each with all others."""
_LEAST_POINTS = 8


@dataclass(frozen=True)
class Trajectory2D:
    """One completion as points of a plane.

    Attributes:
        reward: None where it has none.
        positions: (N,) token numbers of the points, from 0.
        points: (N, 2).
    """

    reward: float | None
    positions: np.ndarray
    points: np.ndarray


def trajectories_of(snapshot: Snapshot, projection: Projection) -> list[Trajectory2D]:
    """The completions of a snapshot in a plane; empty where there are too few tokens.

    PCA is in the run's own axes, which all its snapshots share; t-SNE is made for each snapshot again, and only
    neighbourhoods in it mean something.
    """
    paths = [np.array(row.points, dtype=np.float64).reshape(len(row.points), -1) for row in snapshot.completions]
    total = sum(len(path) for path in paths)
    if total < _LEAST_POINTS or min(path.shape[1] for path in paths if len(path)) < 2:
        return []
    stride = -(-total // _MOST_POINTS)
    positions = [np.arange(0, len(path), stride) for path in paths]
    thin = [path[at] for path, at in zip(paths, positions, strict=True)]
    if projection == "PCA":
        planes = [path[:, :2] for path in thin]
    else:
        placed = _embedded(tuple(tuple(point) for path in thin for point in path.tolist()))
        planes = np.split(placed, np.cumsum([len(path) for path in thin])[:-1])
    rewards = [row.reward for row in snapshot.completions]
    return [Trajectory2D(*each) for each in zip(rewards, positions, planes, strict=True)]


@functools.lru_cache(maxsize=64)  # a served page is drawn again whenever its run has written something
def _embedded(points: tuple[tuple[float, ...], ...]) -> np.ndarray:
    # Here, since it takes longer to import than a page without trajectories takes to draw.
    from sklearn.manifold import TSNE

    values = np.array(points)
    model: Any = TSNE(perplexity=min(30.0, (len(values) - 1) / 3), init="pca", random_state=0, max_iter=500)
    return np.asarray(model.fit_transform(values))


def plot_trajectories(trajectories: Sequence[Trajectory2D], ax: Axes | None = None, *, by: Shade = "reward") -> Axes:
    """Draw completions as lines through their tokens, a large dot at the first one.

    Args:
        by: "reward": blue is rewarded and orange is not, grey has no reward; "time": from violet at the first token to
            yellow at the last.
    """
    ax = as_axes(ax, (3.6, 3.2))
    quieten(ax)
    last = max((int(each.positions[-1]) for each in trajectories if len(each.positions)), default=1) or 1
    for each in trajectories:
        if not len(each.points):
            continue
        color = _reward_color(each.reward)
        line = {"color": color if by == "reward" else "#bbbbbb", "linewidth": 0.8, "alpha": 0.55, "zorder": 1}
        ax.plot(*each.points.T, **line)
        shade: dict[str, Any] = (
            {"color": color}
            if by == "reward"
            else {"c": each.positions / last, "cmap": "viridis", "vmin": 0.0, "vmax": 1.0}
        )
        ax.scatter(*each.points.T, s=7, linewidths=0, zorder=2, **shade)
        begin = {"facecolors": color} if by == "reward" else {"facecolors": "#440154"}
        ax.scatter(*each.points[:1].T, s=34, edgecolors="white", linewidths=0.8, zorder=3, **begin)
    ax.set_xlabel("first axis", fontsize=8.5, color=INK)
    ax.set_ylabel("second axis", fontsize=8.5, color=INK)
    return ax


def draw_trajectories(runs: Sequence[RunRecord]) -> Figure | None:
    """The last snapshot of each of the first runs: PCA and t-SNE, by reward and by time; None without snapshots."""
    shown = [run for run in runs if run.snapshots and trajectories_of(run.snapshots[-1], "PCA")][:3]
    if not shown:
        return None
    figure = Figure(figsize=(11.2, 2.95 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 4, squeeze=False)
    for run, row in zip(shown, axes, strict=True):
        snapshot = run.snapshots[-1]
        pairs: list[tuple[Projection, Shade]] = [(projection, by) for projection in PROJECTIONS for by in SHADES]
        for (projection, by), ax in zip(pairs, row, strict=True):
            plot_trajectories(trajectories_of(snapshot, projection), ax, by=by)
            ax.set_title(
                f"{run.label}, update {snapshot.update}\n{projection}, by {by}",
                fontsize=9,
                color=INK,
                loc="left",
                parse_math=False,
            )
    return figure


def trajectory_rows(runs: Sequence[RunRecord]) -> list[tuple[Any, ...]]:
    """Rows of `TRAJECTORY_COLUMNS`, of the figure."""
    return [
        (run.label, run.snapshots[-1].update, projection, number, each.reward, int(at) + 1, *map(float, point))
        for run in [run for run in runs if run.snapshots][:3]
        for projection in PROJECTIONS
        for number, each in enumerate(trajectories_of(run.snapshots[-1], projection), start=1)
        for at, point in zip(each.positions, each.points, strict=True)
    ]


def _reward_color(reward: float | None) -> str:
    return "#8a8a8a" if reward is None else color_of(0) if reward > 0 else color_of(1)
