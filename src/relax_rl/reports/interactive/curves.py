"""Every logged number as curves, in groups; the first group is the layout of the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from relax_rl.comparison.records import RunRecord, by_method
from relax_rl.reports.curves import smoothing_window
from relax_rl.reports.payload import rounded

__all__ = ["GROUPS", "curve_data", "group_of", "line_data"]

_MOST_NUMBERS = 200_000
"""In the curves of a page, some 1.5 MB; beyond, neighbouring steps are averaged."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Training dynamics": ("reward", "entropy", "latent/dsd", "completions/mean_length", "grad_norm", "kl"),
    "Latent dynamics": ("latent/",),
    "Images": ("sight/",),
    "Entropy and exploration": ("entropy/", "tokens/", "gate/", "group/"),
    "Rewards and grading": ("reward_std", "rewards/", "verifiers/", "grading/", "frac_reward_zero_std", "advantage/"),
    "Completions": ("completions/", "sampling/", "num_tokens", "rollouts/"),
    "Optimisation": ("loss", "learning_rate", "clip_ratio/", "update/", "guard/"),
}
"""Title to keys, or beginnings of keys that end in a slash; what fits none is under "Cost and the rest"."""
_REST = "Cost and the rest"

_TITLES = {
    "reward": ("Reward", ""),
    "entropy": ("Token entropy", "nats"),
    "latent/dsd": ("DSD", ""),
    "completions/mean_length": ("Completion length", "tokens"),
    "grad_norm": ("Gradient norm", ""),
    "kl": ("KL to the reference", "nats a token"),
    "step_time": ("Time of an update", "s"),
    "completions/clipped_ratio": ("Truncated completions", "share"),
    "frac_reward_zero_std": ("Groups of equal rewards", "share"),
}


def group_of(key: str) -> str:
    """The group that a metric is shown in."""
    for title, members in GROUPS.items():
        if any(key == member or (member.endswith("/") and key.startswith(member)) for member in members):
            return title
    return _REST


def line_data(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A line a run, and its method's colour: seeds of one method share it."""
    methods = list(by_method(runs))
    return [{"label": run.label, "color": methods.index(run.method)} for run in runs]


def curve_data(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """All metrics of all runs over common steps; None where no step was logged."""
    keys = list(dict.fromkeys(key for run in runs for row in run.metrics for key in row))
    curves = {key: [run.curve(key) for run in runs] for key in keys if key not in ("step", "epoch")}
    curves = {key: found for key, found in curves.items() if any(len(steps) for steps, _ in found)}
    if not curves:
        return None
    steps = np.unique(np.concatenate([steps for found in curves.values() for steps, _ in found]))
    width = _width(len(steps), len(curves) * len(runs))
    shown = [float(part.mean().round()) for part in np.split(steps, range(width, len(steps), width))]
    panels: dict[str, list[dict[str, Any]]] = {}
    for key, found in curves.items():
        logged = [place for place, (at, _) in enumerate(found) if len(at)]
        title, unit = _TITLES.get(key, (key, ""))
        values = [_on(steps, *found[place], width) for place in logged]
        panels.setdefault(group_of(key), []).append(
            {"key": key, "title": title, "unit": unit, "runs": logged, "values": values}
        )
    panels.get("Training dynamics", []).sort(key=lambda panel: GROUPS["Training dynamics"].index(panel["key"]))
    groups = [
        {"title": title, "open": title == "Training dynamics", "panels": panels[title]}
        for title in (*GROUPS, _REST)
        if title in panels
    ]
    if not any(group["open"] for group in groups):
        groups[0]["open"] = True
    return {
        "steps": shown,
        "width": width,
        "lines": line_data(runs),
        "smoothing": (smoothing_window(len(shown)) - 1) // 2,
        "groups": groups,
    }


def _width(num_steps: int, num_curves: int) -> int:
    """Steps averaged into one value."""
    return max(1, -(-num_steps * num_curves // _MOST_NUMBERS))


def _on(steps: np.ndarray, at: np.ndarray, values: np.ndarray, width: int) -> list[float | None]:
    """Values at all steps, None where nothing was logged; means over `width` steps."""
    full = np.full(len(steps), np.nan)
    full[np.searchsorted(steps, at)] = values
    parts = np.split(full, range(width, len(full), width))
    return [rounded(np.nanmean(part)) if np.isfinite(part).any() else None for part in parts]
