"""Evaluations as curves: pass@k over k with its intervals, and what was measured on the way over the updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_rl.comparison.records import RunRecord
from relax_rl.reports.passes import pass_differences
from relax_rl.reports.payload import rounded

__all__ = ["during_panels", "pass_panels"]

_DURING = ("mean@1", "pass@{k}", "entropy", "truncated")


def pass_panels(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """pass@k over k, before and after training, with intervals; empty where no evaluation has the curve."""
    # Six colours, then the same dashed: before training is the dashed line of the run's colour.
    found = [
        (f"{run.label}, {stage}", run.evaluations[stage].pass_at_k, place + 6 * (stage == "before"))
        for place, run in enumerate(runs)
        for stage in ("before", "after")
        if stage in run.evaluations and len(run.evaluations[stage].pass_at_k) > 1
    ]
    if not found:
        return []
    count = max(len(curve) for _, curve, _ in found)

    def padded(values: list[float | None]) -> list[float | None]:
        return values + [None] * (count - len(values))

    differences = _difference_panel(runs)
    return [
        {
            "key": "pass@k",
            "title": "pass@k",
            "unit": "share of the problems",
            "xname": "k",
            "xlog": True,
            "smooth": False,
            "x": list(range(1, count + 1)),
            "lines": [{"label": label, "color": color} for label, _, color in found],
            "values": [padded([rounded(point.value) for point in curve]) for _, curve, _ in found],
            "low": [padded([rounded(point.low) for point in curve]) for _, curve, _ in found],
            "high": [padded([rounded(point.high) for point in curve]) for _, curve, _ in found],
        },
        *differences,
    ]


def _difference_panel(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Paired differences in pass@k over k, with intervals; empty where nothing can be compared."""
    found = pass_differences(runs)
    ks = sorted({k for by_k in found.values() for k in by_k})
    if not ks:
        return []
    ends = {
        end: [[rounded(getattr(by_k[k], end)) if k in by_k else None for k in ks] for by_k in found.values()]
        for end in ("value", "low", "high")
    }
    return [
        {
            "key": "difference in pass@k",
            "title": "Paired differences",
            "unit": "in pass@k",
            "xname": "k",
            "xlog": True,
            "smooth": False,
            "x": ks,
            "lines": [{"label": name, "color": place} for place, name in enumerate(found)],
            "values": ends["value"],
            "low": ends["low"],
            "high": ends["high"],
        }
    ]


def during_panels(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Metrics of the evaluations during training against the update, with their intervals."""
    measured = [run for run in runs if run.during]
    updates = sorted({update for run in measured for update in run.during})
    if not updates:
        return []
    count = max(evaluation.num_samples for run in measured for evaluation in run.during.values())
    panels = []
    for name in (name.format(k=count) for name in _DURING):
        estimates = [
            [run.during[at].metrics.get(name) if at in run.during else None for at in updates] for run in measured
        ]
        if any(each is not None for row in estimates for each in row):
            ends = {
                end: [[None if each is None else rounded(getattr(each, end)) for each in row] for row in estimates]
                for end in ("value", "low", "high")
            }
            panels.append(
                {
                    "key": name,
                    "title": name,
                    "unit": "held-out problems",
                    "xname": "update",
                    "smooth": False,
                    "x": updates,
                    "lines": [{"label": run.label, "color": place} for place, run in enumerate(measured)],
                    "values": ends["value"],
                    "low": ends["low"],
                    "high": ends["high"],
                }
            )
    return panels
