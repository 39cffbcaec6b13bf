"""Latent trajectories of one prompt for the scripts: a step a snapshot, PCA and t-SNE, by reward and by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from relax_rl.comparison.records import RunRecord
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.reports.interactive.modes import chosen_snapshots
from relax_rl.reports.payload import rounded
from relax_rl.reports.trajectories import PROJECTIONS, Projection, trajectories_of

__all__ = ["trajectory_planes"]

_MOST_RUNS = 2


def trajectory_planes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Four planes a run and snapshot; None where no run has snapshots."""
    found = {
        (snapshot.update, run.label): (run, snapshot) for run in runs[:_MOST_RUNS] for snapshot in chosen_snapshots(run)
    }
    updates = sorted({update for update, _ in found})
    views = [
        [
            _view(run, snapshot, projection, by)
            for (at, _), (run, snapshot) in found.items()
            if at == update
            for projection in PROJECTIONS
            if trajectories_of(snapshot, projection)
            for by in ("reward", "time")
        ]
        for update in updates
    ]
    steps = [f"update {update}" for update, view in zip(updates, views, strict=True) if view]
    drawn = [view for view in views if view]
    return {"name": "after", "steps": steps, "views": drawn} if drawn else None


def _view(run: RunRecord, snapshot: Snapshot, projection: Projection, by: Literal["reward", "time"]) -> dict[str, Any]:
    series: list[dict[str, Any]] = []
    for number, each in enumerate(trajectories_of(snapshot, projection), start=1):
        label = f"completion {number}, " + ("no reward" if each.reward is None else f"reward {each.reward:.3g}")
        tokens = snapshot.completions[number - 1].tokens
        last = max(1, int(each.positions[-1])) if len(each.positions) else 1
        points = [
            [rounded(x), rounded(y), False, round(at / last, 3), f"token {at + 1} {_quoted(tokens, at)}"]
            for at, (x, y) in zip(each.positions.tolist(), each.points.tolist(), strict=True)
        ]
        color = 5 if each.reward is None else 0 if each.reward > 0 else 1
        series.append({"label": label, "color": color, "line": True, "size": 2.5, "points": points})
    title = f"{run.label}, update {snapshot.update}: {projection}, by {by}"
    axes = ("component 1", "component 2") if projection == "PCA" else ("t-SNE 1", "t-SNE 2")
    return {"title": title, "x": axes[0], "y": axes[1], "by": by, "series": series}


def _quoted(tokens: Sequence[str], at: int) -> str:
    return repr(tokens[at]) if at < len(tokens) else ""
